//! The streams of exec, attach and port-forward on the wire: SPDY/3.1 and WebSocket, both ends. Must never know who asks, nor
//! what runs.
//!
//! [`spdy`], [`websocket`] and [`tunnel`] are the wire, [`upgrade`] how a connection leaves HTTP. [`process`] and [`ports`] are the
//! server's end of what the kubelet calls remote command and port forward.

pub mod activity;
pub mod outcome;
pub mod ports;
pub mod process;
pub mod spdy;
pub mod stream;
pub mod tunnel;
pub mod upgrade;
pub mod websocket;
