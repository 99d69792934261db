//! Bad networks: begun, and ended, for all packets at once.

use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::super::troubles::{Host, Trouble, rules};
use super::Storm;
use crate::cluster::ClusterError;

impl Storm<'_> {
    pub(super) async fn trouble(&mut self, trouble: Trouble) -> Result<(), ClusterError> {
        // Half of the time it is the leader that suffers.
        let victim = match self.rng.random() {
            true => self.cluster.leader_among(&self.members).await?,
            false => self.members[self.rng.random_range(0..self.members.len())],
        };
        let name = self.cluster.name(victim);
        let (client_port, peer_port) = (self.cluster.client_port(victim), self.cluster.peer_port(victim));
        let Some(network) = self.cluster.network() else { return Ok(()) };
        let Some(address) = network.address_of(name) else { return Ok(()) };
        let (what, rules) = rules(trouble, Host { address, client_port, peer_port }, &mut self.rng);
        let struck = if trouble == Trouble::HalfOpen { vec![victim] } else { self.members.clone() };
        let fault = self.shared.recorder.fault_began(&format!("network: {what}"), self.names(&struck));
        network.set_rules(rules);
        sleep(Duration::from_millis(self.rng.random_range(1000..5000))).await;
        // What is on its way stays there, and arrives among what is sent now.
        network.set_rules(Vec::new());
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }
}
