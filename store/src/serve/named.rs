//! Tells a service by which name its client's certificate knows the client, with every request.

use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;

use crate::tls::ClientName;

/// The service of one connection. Requests carry a [`ClientName`] among their extensions if there is one.
pub(super) struct Named<S> {
    inner: S,
    name: Option<ClientName>,
}

impl<S> Named<S> {
    pub(super) fn new(inner: S, name: Option<ClientName>) -> Self {
        Self { inner, name }
    }
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Named<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(name) = &self.name {
            request.extensions_mut().insert(name.clone());
        }
        self.inner.call(request)
    }
}
