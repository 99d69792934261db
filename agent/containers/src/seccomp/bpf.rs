//! Compiles a profile to a program of the kernel's classic packet filter, and installs it. Compiling is pure. System calls
//! are found by bisection over ranges of numbers with the same outcome, so that a call costs a few comparisons, not
//! hundreds. Calls in the form of another architecture are refused.

use std::str::FromStr;

use super::profile::{Action, ArgTest, Compare, Profile};

/// An instruction.
type Instruction = libc::sock_filter;

/// A program for the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Program(Vec<Instruction>);

/// AUDIT_ARCH of this machine.
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") { 0xC000_003E } else { 0xC000_00B7 };

/// Calls of the x32 form have this bit in their numbers.
const X32: u32 = 0x4000_0000;

// Where things are in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

// Codes of instructions.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

impl Program {
    /// Filters this process, and all that it becomes, from now on. Needs CAP_SYS_ADMIN, or no_new_privs set.
    #[allow(unsafe_code, reason = "no safe binding installs a filter without setting no_new_privs as well")]
    pub(crate) fn install(&self) -> std::io::Result<()> {
        let program = libc::sock_fprog {
            // A profile has some hundred instructions; the kernel takes 4096 and refuses what is cut.
            len: self.0.len() as libc::c_ushort,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to `len` initialised instructions that live until the call returns; the kernel copies
        // them and writes nothing.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&program))
        };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

/// What happens to one number: the first whose tests all hold, or else the last word.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    conditional: Vec<(Vec<ArgTest>, Action)>,
    otherwise: Action,
}

/// Compiles.
pub(crate) fn compile(profile: &Profile) -> Program {
    let foreign = match profile.default {
        // A list of what is forbidden would be avoided by calling in another form.
        Action::Allow | Action::Log => Action::KillProcess,
        other => other,
    };
    let mut program = vec![load(ARCH), branch(JUMP_EQUAL, ARCHITECTURE, 1, 0), give(foreign), load(NUMBER)];
    if cfg!(target_arch = "x86_64") {
        program.push(branch(JUMP_GREATER_EQUAL, X32, 0, 1));
        program.push(give(foreign));
    }
    program.extend(search(&ranges(profile)));
    Program(program)
}

/// Outcomes by ascending first numbers; each holds until the next one begins.
fn ranges(profile: &Profile) -> Vec<(u32, Outcome)> {
    let mut calls: std::collections::BTreeMap<u32, Outcome> = std::collections::BTreeMap::new();
    for rule in &profile.rules {
        for name in &rule.names {
            let Ok(call) = syscalls::Sysno::from_str(name) else { continue };
            let Ok(number) = u32::try_from(call.id()) else { continue };
            let outcome = calls
                .entry(number)
                .or_insert_with(|| Outcome { conditional: Vec::new(), otherwise: profile.default });
            if rule.tests.is_empty() {
                outcome.otherwise = rule.action;
            } else {
                outcome.conditional.push((rule.tests.clone(), rule.action));
            }
        }
    }
    let unnamed = Outcome { conditional: Vec::new(), otherwise: profile.default };
    let mut ranges: Vec<(u32, Outcome)> = vec![(0, unnamed.clone())];
    let mut push = |number: u32, outcome: Outcome| match ranges.last_mut() {
        Some((start, last)) if *start == number => *last = outcome,
        Some((_, last)) if *last == outcome => {}
        _ => ranges.push((number, outcome)),
    };
    let mut next = 0;
    for (number, outcome) in calls {
        if number > next {
            push(next, unnamed.clone());
        }
        push(number, outcome);
        next = number + 1;
    }
    push(next, unnamed);
    ranges
}

/// Code that finds the range of the loaded number.
fn search(ranges: &[(u32, Outcome)]) -> Vec<Instruction> {
    if let [(_, outcome)] = ranges {
        return decide(outcome);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let low = search(low);
    let mut code = vec![
        // From the first number of the upper half on, the jump over the lower half is taken.
        branch(JUMP_GREATER_EQUAL, high[0].0, 0, 1),
        Instruction { code: JUMP, jt: 0, jf: 0, k: low.len() as u32 },
    ];
    code.extend(low);
    code.extend(search(high));
    code
}

/// Code that looks at the arguments.
fn decide(outcome: &Outcome) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (tests, action) in &outcome.conditional {
        code.extend(conditional(tests, *action));
    }
    code.push(give(outcome.otherwise));
    code
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The test holds.
    Pass,
    /// It does not, and neither does the rule.
    Fail,
}

/// Code that gives the action if all tests hold, and else falls through.
fn conditional(tests: &[ArgTest], action: Action) -> Vec<Instruction> {
    let tests: Vec<Vec<(u16, u32, To, To)>> = tests.iter().map(steps).collect();
    let total: usize = tests.iter().map(Vec::len).sum();
    let mut code = Vec::with_capacity(total + 1);
    let mut end_of_test = 0;
    for steps in tests {
        end_of_test += steps.len();
        for (operation, k, yes, no) in steps {
            let here = code.len() + 1;
            // Six tests have at most thirty steps: distances fit into a byte.
            let distance = |to| match to {
                To::Next => 0,
                To::Pass => (end_of_test - here) as u8,
                To::Fail => (total + 1 - here) as u8,
            };
            code.push(Instruction { code: operation, jt: distance(yes), jf: distance(no), k });
        }
    }
    code.push(give(action));
    code
}

/// The comparison of one argument, of 64 bits, in words of 32: first the upper, then the lower.
fn steps(test: &ArgTest) -> Vec<(u16, u32, To, To)> {
    use To::{Fail, Next, Pass};
    let low_at = ARGUMENTS + 8 * u32::from(test.index);
    let load_high = (LOAD, low_at + 4, Next, Next);
    let load_low = (LOAD, low_at, Next, Next);
    let words = |value: u64| ((value >> 32) as u32, value as u32);
    let (upper, lower) = words(test.value);
    match test.compare {
        Compare::Equal => {
            vec![load_high, (JUMP_EQUAL, upper, Next, Fail), load_low, (JUMP_EQUAL, lower, Pass, Fail)]
        }
        Compare::NotEqual => {
            vec![load_high, (JUMP_EQUAL, upper, Next, Pass), load_low, (JUMP_EQUAL, lower, Fail, Pass)]
        }
        Compare::Greater | Compare::GreaterOrEqual => {
            let last = if test.compare == Compare::Greater { JUMP_GREATER } else { JUMP_GREATER_EQUAL };
            vec![
                load_high,
                (JUMP_GREATER, upper, Pass, Next),
                (JUMP_EQUAL, upper, Next, Fail),
                load_low,
                (last, lower, Pass, Fail),
            ]
        }
        Compare::Less | Compare::LessOrEqual => {
            let last = if test.compare == Compare::Less { JUMP_GREATER_EQUAL } else { JUMP_GREATER };
            vec![
                load_high,
                (JUMP_GREATER, upper, Fail, Next),
                (JUMP_EQUAL, upper, Next, Pass),
                load_low,
                (last, lower, Fail, Pass),
            ]
        }
        Compare::MaskedEqual => {
            let (wanted_upper, wanted_lower) = words(test.value_two);
            vec![
                load_high,
                (AND, upper, Next, Next),
                (JUMP_EQUAL, wanted_upper, Next, Fail),
                load_low,
                (AND, lower, Next, Next),
                (JUMP_EQUAL, wanted_lower, Pass, Fail),
            ]
        }
    }
}

fn load(at: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: at }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn give(action: Action) -> Instruction {
    let k = match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Log => libc::SECCOMP_RET_LOG,
    };
    Instruction { code: RETURN, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::super::default;
    use super::super::profile::Rule;
    use super::*;

    /// What the kernel would do: runs the program on one call.
    fn run(program: &Program, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let Instruction { code, jt, jf, k } = program.0[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { jt } else { jf });
            match code {
                LOAD if k == NUMBER => a = number,
                LOAD if k == ARCH => a = arch,
                LOAD => {
                    let word = (k - ARGUMENTS) / 4;
                    let value = arguments[(word / 2) as usize];
                    a = if word.is_multiple_of(2) { value as u32 } else { (value >> 32) as u32 };
                }
                AND => a &= k,
                JUMP => at += k as usize,
                JUMP_EQUAL => at += jump(a == k),
                JUMP_GREATER => at += jump(a > k),
                JUMP_GREATER_EQUAL => at += jump(a >= k),
                RETURN => return k,
                other => panic!("unknown code {other:#x}"),
            }
        }
    }

    fn number(name: &str) -> u32 {
        syscalls::Sysno::from_str(name).unwrap().id() as u32
    }

    const PERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
    const NOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn the_default_lets_through_what_programs_need_and_nothing_of_administration() {
        let program = compile(&default::profile(&[]));
        let call = |name: &str, first: u64| run(&program, ARCHITECTURE, number(name), [first, 0, 0, 0, 0, 0]);
        for name in ["read", "openat", "execve", "exit_group", "mmap", "futex", "socket", "clone", "ptrace"] {
            assert_eq!(call(name, 0), ALLOW, "{name}");
        }
        for name in ["mount", "reboot", "bpf", "init_module", "setns", "keyctl", "add_key", "kexec_load"] {
            assert_eq!(call(name, 0), PERM, "{name}");
        }
        assert_eq!(call("clone3", 0), NOSYS);
        assert_eq!(call("socket", 39), ALLOW);
        assert_eq!(call("socket", 40), PERM);
        assert_eq!(call("socket", 41), ALLOW);
        assert_eq!(call("clone", 0x1000_0000), PERM, "a user namespace");
        assert_eq!(call("clone", 0x0001_0000), ALLOW, "a thread");
        assert_eq!(call("personality", 8), ALLOW);
        assert_eq!(call("personality", 0x0004_0000), PERM, "no randomisation");
        assert_eq!(run(&program, ARCHITECTURE, 100_000, [0; 6]), PERM);
    }

    #[test]
    fn capabilities_open_what_belongs_to_them() {
        let program = compile(&default::profile(&["CAP_SYS_ADMIN".to_owned()]));
        for name in ["mount", "clone3", "setns", "clone"] {
            assert_eq!(
                run(&program, ARCHITECTURE, number(name), [0x1000_0000, 0, 0, 0, 0, 0]),
                ALLOW,
                "{name}"
            );
        }
        assert_eq!(run(&program, ARCHITECTURE, number("reboot"), [0; 6]), PERM);
    }

    #[test]
    fn calls_in_another_form_are_refused() {
        let program = compile(&default::profile(&[]));
        assert_eq!(run(&program, 0x4000_0003, number("read"), [0; 6]), PERM);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(run(&program, ARCHITECTURE, number("read") | X32, [0; 6]), PERM);
        }
        let open = Profile { default: Action::Allow, rules: Vec::new() };
        assert_eq!(run(&compile(&open), 0x4000_0003, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn comparisons_hold_over_all_64_bits() {
        let values = [0, 1, 5, u64::from(u32::MAX), 1 << 32, (1 << 32) + 5, (5 << 32) + 1, u64::MAX];
        let holds = |compare, value: u64, with: u64| match compare {
            Compare::NotEqual => value != with,
            Compare::Less => value < with,
            Compare::LessOrEqual => value <= with,
            Compare::Equal => value == with,
            Compare::GreaterOrEqual => value >= with,
            Compare::Greater => value > with,
            Compare::MaskedEqual => value & with == 5,
        };
        for compare in [
            Compare::NotEqual,
            Compare::Less,
            Compare::LessOrEqual,
            Compare::Equal,
            Compare::GreaterOrEqual,
            Compare::Greater,
            Compare::MaskedEqual,
        ] {
            for with in values {
                // The second test must hold as well, so that passing the first one leads there.
                let test = ArgTest { index: 3, value: with, value_two: 5, compare };
                let second = ArgTest { index: 0, value: 7, value_two: 0, compare: Compare::Equal };
                let rule =
                    Rule { names: vec!["read".to_owned()], action: Action::Log, tests: vec![test, second] };
                let program = compile(&Profile { default: Action::Errno(1), rules: vec![rule] });
                for value in values {
                    let expected = if holds(compare, value, with) { libc::SECCOMP_RET_LOG } else { PERM };
                    let call =
                        |first| run(&program, ARCHITECTURE, number("read"), [first, 0, 0, value, 0, 0]);
                    assert_eq!(call(7), expected, "{value} {compare:?} {with}");
                    assert_eq!(call(8), PERM, "{value} {compare:?} {with}");
                }
            }
        }
    }
}
