//! A subscription, and a request with its reply.

use async_nats::HeaderMap;
use futures::StreamExt;

use crate::{PAYLOADS, Result};

pub(crate) async fn run(url: &str, subject: &str) -> Result {
    let client = async_nats::connect(url).await?;
    let mut subscriber = client.subscribe(subject.to_owned()).await?;
    for payload in PAYLOADS {
        let mut headers = HeaderMap::new();
        headers.insert("Fruit", "yes");
        client.publish_with_headers(subject.to_owned(), headers, payload.into()).await?;
    }
    for _ in PAYLOADS {
        let Some(message) = subscriber.next().await else { break };
        let fruit = message.headers.as_ref().and_then(|headers| headers.get("Fruit")).map(ToString::to_string);
        println!("nats got {:?} {fruit:?} {:?}", message.payload, message.reply);
    }

    let replies = async {
        let request = subscriber.next().await?;
        client.publish(request.reply.clone()?, request.payload.slice(..3)).await.ok()
    };
    let (reply, sent) = futures::join!(client.request(subject.to_owned(), "what?".into()), replies);
    println!("nats replied {:?} {sent:?}", reply?.payload);
    subscriber.unsubscribe().await?;
    let nobody = client.request(subject.to_owned(), "anybody?".into()).await;
    println!("nats {}", nobody.map_or_else(|error| error.to_string(), |_reply| "somebody".into()));
    Ok(())
}
