//! The Unix socket: made with its permissions before anyone can reach it, and taken over only from the dead.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use futures::Stream;
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::config::SdsConfig;

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another process serves on it.
    #[error("{} is served by another process", .0.display())]
    InUse(PathBuf),
    /// There is something else at its path, which is left alone.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket. Its file is removed when this is dropped, unless another process has replaced it.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the socket's file when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Socket {
    /// Binds the socket. Must be called within a tokio runtime. Makes the parent directory, for its owner only, if there is
    /// none.
    pub(crate) fn bind(config: &SdsConfig) -> Result<Self, SocketError> {
        let path = config.path.as_path();
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
        made.map_err(|source| failed("create", parent, source))?;

        // Of two that start at once, the second must find the first one listening.
        let lock = File::open(parent).map_err(|source| failed("open", parent, source))?;
        lock.lock().map_err(|source| failed("lock", parent, source))?;
        refuse_unless_stale(path)?;

        // In a directory that only this user can enter, until the mode is right.
        let private = tempfile::Builder::new()
            .prefix(".i")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map_err(|source| failed("create a directory in", parent, source))?;
        let temporary = private.path().join("s");
        let bound = (|| {
            let listener = UnixListener::bind(&temporary)?;
            fs::set_permissions(&temporary, Permissions::from_mode(config.mode.bits()))?;
            let identity = identity(&temporary)?;
            fs::rename(&temporary, path)?;
            Ok((listener, identity))
        })();
        let (listener, identity) = bound.map_err(|source| failed("bind", path, source))?;
        let path = path.to_owned();
        Ok(Self {
            listener,
            file: SocketFile { path, identity },
        })
    }

    /// Connections, for ever, and the guard of the socket's file. An error of one accept (too many open files) is waited
    /// out: ending the service would not help anyone.
    pub(crate) fn into_incoming(self) -> (impl Stream<Item = io::Result<UnixStream>>, SocketFile) {
        let accept = |listener: UnixListener| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => return Some((Ok(stream), listener)),
                    Err(error) => {
                        warn!(%error, "cannot accept an SDS connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        (futures::stream::unfold(self.listener, accept), self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that nobody listens on any more may be replaced. Nothing else may.
fn refuse_unless_stale(path: &Path) -> Result<(), SocketError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("inspect", path, source)),
    };
    if !kind.is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("connect to", path, source)),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> SocketError {
    SocketError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(path: &Path, mode: &str) -> SdsConfig {
        SdsConfig {
            path: path.to_str().unwrap().to_owned().try_into().unwrap(),
            mode: mode.to_owned().try_into().unwrap(),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_has_its_mode_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/sds.sock");
        let socket = Socket::bind(&config(&path, "0660")).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        StdUnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_process_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        // The listener is gone and its file is still there, as after a kill.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let living = Socket::bind(&config(&path, "0600")).unwrap();
        let error = Socket::bind(&config(&path, "0600")).unwrap_err();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        StdUnixStream::connect(&path).unwrap();
        drop(living);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        fs::write(&path, "precious").unwrap();
        let error = Socket::bind(&config(&path, "0600")).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_another_process_put_there_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let first = Socket::bind(&config(&path, "0600")).unwrap();
        fs::remove_file(&path).unwrap();
        let second = Socket::bind(&config(&path, "0600")).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_longest_path_that_the_configuration_accepts_can_be_bound() {
        let directory = tempfile::tempdir().unwrap();
        let room = 96 - directory.path().to_str().unwrap().len() - 3;
        let path = directory.path().join("d".repeat(room)).join("s");
        assert_eq!(path.to_str().unwrap().len(), 96);
        let _socket = Socket::bind(&config(&path, "0600")).unwrap();
        StdUnixStream::connect(&path).unwrap();
    }
}
