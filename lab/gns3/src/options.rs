//! Command-line options for a GNS3 server.

use clap::Args;

use crate::api::Server;
use crate::error::ServerError;
use crate::topology::PROJECT;

/// The address of a GNS3 server, the credentials and the project.
#[derive(Debug, Args)]
pub struct ServerOptions {
    /// URL of the GNS3 server
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:3080",
        env = "SIAR_GNS3_SERVER"
    )]
    pub server: String,
    /// User name on the GNS3 server
    #[arg(long, default_value = "admin", env = "SIAR_GNS3_USER")]
    pub user: String,
    /// Password of the user
    #[arg(long, default_value = "admin", env = "SIAR_GNS3_PASSWORD", hide_env_values = true)]
    pub password: String,
    /// Name of the project
    #[arg(long, default_value = PROJECT)]
    pub project: String,
}

impl ServerOptions {
    /// Connects to the server, finds its version and logs in.
    ///
    /// # Errors
    /// No GNS3 server answers, or the password is wrong.
    pub fn connect(&self) -> Result<Server, ServerError> {
        Server::connect(&self.server, &self.user, &self.password)
    }
}
