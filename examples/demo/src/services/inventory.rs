//! Answers requests over NATS.

use otel_async_nats::{Client, Message, PublishError};
use otel_messaging::MessageExt;
use tracing::{info, instrument};

use crate::{
    Error,
    order::{Order, RESERVE_SUBJECT},
    service::{self, Stop},
};

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
enum InventoryError {
    #[error("not an order: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the answer cannot be sent: {0}")]
    Unanswered(#[from] PublishError),
}

pub(crate) async fn run(stop: Stop) -> Result<(), Error> {
    let nats = otel_async_nats::connect(service::address("NATS_URL")?).await?;
    let mut requests = nats.queue_subscribe(RESERVE_SUBJECT, "inventory".to_owned()).await?;
    // Until the server has the subscription, a request would find no responders.
    nats.flush().await?;
    service::ready(None);

    while let Some(request) = service::next(&mut requests, &stop).await {
        match request.process(|| answer(&nats, &request)).await {
            Ok(()) | Err(InventoryError::Malformed(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(requests);
    nats.flush().await?;
    Ok(())
}

async fn answer(nats: &Client, request: &Message) -> Result<(), InventoryError> {
    let order: Order = serde_json::from_slice(&request.payload)?;
    let shelf = reserve(&order);
    if let Some(inbox) = request.reply.clone() {
        nats.publish(inbox, shelf.into()).await?;
    }
    Ok(())
}

#[instrument(name = "reserve stock", skip_all, fields(order.id = order.id))]
fn reserve(order: &Order) -> String {
    let shelf = format!("shelf {}", order.id % 7);
    info!(order.id, "one {} is reserved on {shelf}", order.item);
    shelf
}
