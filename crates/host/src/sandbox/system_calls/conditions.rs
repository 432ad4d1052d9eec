//! Conditions on the arguments of a system call under which it is forbidden.

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// The argument has none of these values.
pub(super) fn is_none_of(argument: u8, values: [i32; 2]) -> SeccompRule {
    let is_not = |value: i32| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value as u64)
            .expect("a system call has six arguments")
    };
    SeccompRule::new(values.map(is_not).into()).expect("it has conditions")
}

/// An argument of 32 bits; the kernel ignores the others.
pub(super) fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> SeccompRule {
    condition(argument, SeccompCmpArgLen::Dword, operator, value)
}

/// An argument of 64 bits.
pub(super) fn when_long(argument: u8, operator: SeccompCmpOp, value: u64) -> SeccompRule {
    condition(argument, SeccompCmpArgLen::Qword, operator, value)
}

fn condition(argument: u8, length: SeccompCmpArgLen, operator: SeccompCmpOp, value: u64) -> SeccompRule {
    SeccompCondition::new(argument, length, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .expect("a system call has six arguments")
}
