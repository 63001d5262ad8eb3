//! Publishes with confirms, one of them returned, and a consumer that settles in three ways.

use futures::StreamExt;
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};

use crate::{PAYLOADS, Result};

pub(crate) async fn run(uri: &str, queue: &str) -> Result {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await?;

    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    for payload in PAYLOADS {
        let properties = BasicProperties::default().with_message_id("4711".into());
        let confirm = channel.basic_publish("".into(), queue.into(), options, payload.as_bytes(), properties).await?;
        println!("rabbitmq confirmed {:?}", confirm.await?);
    }
    let properties = BasicProperties::default();
    let confirm = channel.basic_publish("".into(), "nowhere".into(), options, b"lost", properties).await?;
    if let Confirmation::Ack(Some(returned)) = confirm.await? {
        println!("rabbitmq returned {} {:?}", returned.reply_code, returned.delivery.properties.headers());
    }

    let get = channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
    if let Some(message) = get {
        println!("rabbitmq got {:?}, {} left", String::from_utf8(message.delivery.data)?, message.message_count);
        message.delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    for turn in 1..PAYLOADS.len() {
        let Some(delivery) = consumer.next().await else { break };
        let Delivery { delivery_tag, properties, data, acker, .. } = delivery?;
        println!("rabbitmq got {delivery_tag} {:?} {:?}", String::from_utf8(data)?, properties.message_id());
        match turn {
            1 => acker.nack(BasicNackOptions { requeue: false, ..Default::default() }).await?,
            _ => acker.reject(BasicRejectOptions::default()).await?,
        };
    }
    connection.close(200, "".into()).await?;
    Ok(())
}
