//! `--initial-cluster`: the members a cluster begins with.

use super::{ConfigError, Url};

/// One member of `--initial-cluster`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its `--name`.
    pub name: String,
    /// Its peer URLs, sorted.
    pub peer_urls: Vec<Url>,
}

/// Reads `a=http://...,b=http://...`. As in etcd, a name that occurs again adds a URL to its member.
/// The members come out sorted by name, so that equal clusters are equal values.
///
/// # Errors
/// When it is not a list of names with URLs that others can connect to.
pub fn parse(text: &str) -> Result<Vec<InitialMember>, ConfigError> {
    let mut members: Vec<InitialMember> = Vec::new();
    for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let syntax = || ConfigError::InitialClusterSyntax(piece.into());
        let (name, url) = piece.split_once('=').ok_or_else(syntax)?;
        if name.is_empty() || url.is_empty() {
            return Err(syntax());
        }
        let url = super::valid::advertised("--initial-cluster", url)?;
        if members.iter().any(|member| member.peer_urls.contains(&url)) {
            return Err(ConfigError::InitialClusterTwice(url));
        }
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url),
            None => members.push(InitialMember { name: name.into(), peer_urls: vec![url] }),
        }
    }
    if members.is_empty() {
        return Err(ConfigError::InitialClusterSyntax(text.into()));
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    for member in &mut members {
        member.peer_urls.sort();
    }
    Ok(members)
}
