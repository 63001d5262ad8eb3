//! RabbitMQ: channels of one connection, lent out and taken back.

use std::{
    ops::Deref,
    sync::{Mutex, PoisonError},
};

use lapin::{Channel, Connection, ConnectionProperties, Result, options::ConfirmSelectOptions};

/// Channels that confirm what they publish.
#[derive(Debug)]
pub struct Pool {
    connection: Connection,
    idle: Mutex<Vec<Channel>>,
}

/// A channel of a pool, back in it when this is dropped.
#[derive(Debug)]
pub struct Lent<'a> {
    pool: &'a Pool,
    channel: Channel,
}

impl Pool {
    /// Connects.
    ///
    /// # Errors
    ///
    /// lapin's.
    pub async fn connect(uri: &str) -> Result<Self> {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
        Ok(Self { connection, idle: Mutex::default() })
    }

    /// A channel that nobody has, or a new one.
    ///
    /// # Errors
    ///
    /// lapin's.
    pub async fn get(&self) -> Result<Lent<'_>> {
        let idle = self.idle().pop();
        let channel = match idle.filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => {
                let channel = self.connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                channel
            }
        };
        Ok(Lent { pool: self, channel })
    }

    /// How many channels nobody has.
    pub fn idle_channels(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Lent<'_> {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool.idle().push(self.channel.clone());
    }
}
