use futures::StreamExt;
use otel_lapin::{
    BasicProperties, Channel, Consumer, Result,
    message::{Delivery, DeliveryResult},
    options::{BasicAckOptions, BasicPublishOptions},
    otel::{MessageStreamExt, sequential},
};

// Knows nothing of spans.
async fn ship(channel: &Channel, order: &Delivery) -> Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), "shipping".into(), options, &order.data, properties).await?;
    order.ack(BasicAckOptions::default()).await?;
    Ok(())
}

// No code: lapin calls the delegate, each time inside the span of its message.
fn by_delegate(channel: Channel, orders: &Consumer) {
    orders.set_delegate(move |order: DeliveryResult| {
        let channel = channel.clone();
        async move {
            if let Ok(Some(order)) = order {
                let _ = ship(&channel, &order).await;
            }
        }
    });
}

// One line around a loop, whose message in hand is current.
async fn one_after_the_other(channel: &Channel, orders: &mut Consumer) -> Result<()> {
    sequential(async {
        while let Some(order) = orders.next().await {
            ship(channel, &order?).await?;
        }
        Ok(())
    })
    .await
}

// Eight at a time, each inside its own span. A handler's error is recorded there and stops no other order.
async fn eight_at_a_time(channel: &Channel, orders: &mut Consumer) -> Result<()> {
    orders
        .process_each(8, async |order| ship(channel, &order).await)
        .on_outcome(|shipped| {
            if let Err(error) = shipped {
                eprintln!("an order is not shipped: {error}");
            }
        })
        .await
}
