//! A process that works over the API: whom it speaks to, where its health and metrics are served, and that only one of several
//! does the work. Must never know what the work is.

mod config;
mod counts;
mod elected;
mod serve;

pub use config::{Config, ConfigError, LeaseConfig, ValidConfig, go_duration};
pub use counts::count_process;
pub use elected::{elected, identity};
pub use serve::{ServeError, Server, bind};
