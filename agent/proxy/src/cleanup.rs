//! Removing the tables. Must never touch tables of another name.

use crate::nft::{Family, Kernel, KernelError, Step, Transaction};

/// Removes the tables of this name, if they are there, in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel does not let us.
pub fn cleanup(table: &str) -> Result<(), KernelError> {
    let mut transaction = Transaction::default();
    for family in Family::ALL {
        // To delete what is not there is an error, to add what is there is none.
        transaction.steps.push((family, Step::AddTable));
        transaction.steps.push((family, Step::DeleteTable));
    }
    Kernel::open(table)?.commit(&transaction)
}
