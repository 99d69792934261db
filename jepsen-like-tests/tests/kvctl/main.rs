//! `kvctl`: every command on a live cluster of three, and those that etcdctl has side by side with it.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod beyond;
mod commands;
mod connections;
mod equal;
mod members;
mod migration;
mod users;

use jepsen_like_tests::etcdctl::json;
