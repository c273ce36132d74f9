//! The accept loop under every emulator: HTTP/1.1 on a free port of 127.0.0.1, plain or TLS.
//!
//! `axum::serve` leaves open connections running when it is dropped, and gives no way to cut one. Both are
//! needed here: a test's servers must be gone when the test is, and a fault is sometimes a dropped
//! connection.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{response::IntoResponse as _, Router};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, service::Service as _, Request};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::{fault::DropConnection, CloudError};

/// A running server. Dropping it closes the port and every connection.
pub(crate) struct Server {
    address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    pub(crate) async fn start(router: Router, tls: Option<Arc<ServerConfig>>) -> Result<Self, CloudError> {
        let bind = |source| CloudError::io("listening on 127.0.0.1", source);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let task = tokio::spawn(accept(listener, router, tls.map(TlsAcceptor::from))).abort_handle();
        Ok(Self { address, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, router: Router, tls: Option<TlsAcceptor>) {
    // Owned by this task, so that aborting the task aborts the connections too.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: let some connections end first.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        let tls = tls.clone();
        connections.spawn(async move {
            match tls {
                None => serve(stream, router).await,
                // A client that does not trust us or does not speak TLS is its own fault: no log, no count.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, router).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.call(request);
        async move {
            let response = answer
                .await
                .unwrap_or_else(|never: Infallible| never.into_response());
            // An error from the service is how hyper is told to close without an answer.
            match response.extensions().get::<DropConnection>() {
                Some(_) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                None => Ok(response),
            }
        }
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}
