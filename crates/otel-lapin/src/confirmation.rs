//! The broker's answer to a publish.

use crate::message::BasicReturnMessage;

/// [`lapin::Confirmation`]: the broker's answer.
#[derive(Debug, PartialEq)]
pub enum Confirmation {
    /// Accepted. Contains the message if it was mandatory or immediate and was returned.
    Ack(Option<BasicReturnMessage>),
    /// Refused. Contains the message if it was returned.
    Nack(Option<BasicReturnMessage>),
    /// The channel is not in confirm mode.
    NotRequested,
}

impl Confirmation {
    /// The returned message, if there is one.
    #[must_use]
    pub fn take_message(self) -> Option<BasicReturnMessage> {
        match self {
            Self::Ack(message) | Self::Nack(message) => message,
            Self::NotRequested => None,
        }
    }

    /// Whether the broker accepted the message.
    #[must_use]
    pub fn is_ack(&self) -> bool {
        matches!(self, Self::Ack(_))
    }

    /// Whether the broker refused the message.
    #[must_use]
    pub fn is_nack(&self) -> bool {
        matches!(self, Self::Nack(_))
    }
}

impl From<lapin::Confirmation> for Confirmation {
    fn from(confirmation: lapin::Confirmation) -> Self {
        match confirmation {
            lapin::Confirmation::Ack(message) => Self::Ack(message.map(BasicReturnMessage::from)),
            lapin::Confirmation::Nack(message) => Self::Nack(message.map(BasicReturnMessage::from)),
            lapin::Confirmation::NotRequested => Self::NotRequested,
        }
    }
}

impl From<Confirmation> for lapin::Confirmation {
    fn from(confirmation: Confirmation) -> Self {
        match confirmation {
            Confirmation::Ack(message) => Self::Ack(message.map(BasicReturnMessage::into_inner)),
            Confirmation::Nack(message) => Self::Nack(message.map(BasicReturnMessage::into_inner)),
            Confirmation::NotRequested => Self::NotRequested,
        }
    }
}
