//! What probes and hooks ask over the network: HTTP, TCP, gRPC, with the kubelet's rules and words. Must never know why
//! somebody asks, or what follows from an answer.

mod grpc;
mod http;
mod tcp;

use core::convert::Infallible;
use core::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{Either, select};
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub use self::http::Request;

/// Something to ask.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// A page.
    Http(&'a HTTPGetAction),
    /// Whether somebody listens.
    Tcp(&'a TCPSocketAction),
    /// How a service is, by the protocol `grpc.health.v1`.
    Grpc(&'a GRPCAction),
}

/// Asks a container of the pod that has this address.
///
/// # Errors
/// What was answered instead, as the kubelet says it.
pub async fn ask(
    question: Question<'_>,
    container: &Container,
    address: IpAddr,
    patience: Duration,
) -> Result<(), String> {
    match question {
        Question::Http(action) => {
            let request = Request::new(action, container, address)?;
            http::get(&request, patience).await
        }
        Question::Tcp(action) => {
            let port = port(&action.port, container)?;
            tcp::dial(&host(action.host.as_deref(), address), port, patience).await.map(drop)
        }
        Question::Grpc(action) => {
            let port = u16::try_from(action.port).map_err(|_| no_port(&action.port.to_string()))?;
            grpc::check(address, port, action.service.as_deref().unwrap_or_default(), patience).await
        }
    }
}

/// Works, and drives the connection meanwhile. What ends a connection is told by the work.
async fn beside<T>(work: impl Future<Output = T>, connection: impl Future) -> T {
    let driven = connection.then(|_| std::future::pending::<Infallible>());
    match select(pin!(work), pin!(driven)).await {
        Either::Left((done, _)) => done,
        Either::Right((never, _)) => match never {},
    }
}

/// The host that is named, or the pod.
fn host(named: Option<&str>, address: IpAddr) -> String {
    named.filter(|named| !named.is_empty()).map_or_else(|| address.to_string(), str::to_owned)
}

fn no_port(text: &str) -> String {
    format!("invalid port number: {text}")
}

/// A number, or the container's port of that name.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let ports = container.ports.as_deref().unwrap_or_default();
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
            match named.map(|port| port.container_port).or_else(|| name.parse().ok()) {
                Some(number) => number,
                None => {
                    return Err(format!("couldn't find port: {name:?} in container {:?}", container.name));
                }
            }
        }
    };
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| no_port(&number.to_string()))
}

/// `host:port`, an address of version 6 in brackets.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_numbers_or_names_of_the_container() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .unwrap();
        let of = |value: IntOrString| port(&value, &container);
        assert_eq!(of(IntOrString::Int(80)), Ok(80));
        assert_eq!(of(IntOrString::String("web".into())), Ok(8080));
        assert_eq!(of(IntOrString::String("81".into())), Ok(81));
        assert_eq!(of(IntOrString::Int(0)), Err("invalid port number: 0".into()));
        assert_eq!(of(IntOrString::Int(70_000)), Err("invalid port number: 70000".into()));
        assert_eq!(
            of(IntOrString::String("db".into())),
            Err("couldn't find port: \"db\" in container \"c\"".into())
        );
    }

    #[test]
    fn addresses_of_version_6_stand_in_brackets() {
        assert_eq!(authority("fd00::1", 80), "[fd00::1]:80");
        assert_eq!(authority("10.0.0.1", 80), "10.0.0.1:80");
    }
}
