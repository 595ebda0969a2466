//! Publishes one event to a local node and receives it with a durable consumer.
//!
//! ```text
//! cargo run -- node --bootstrap &
//! cargo run --example hello -- 127.0.0.1:7400
//! ```

use aqueduct::client::{Client, LaneChoice, Options, SubscribeOptions};
use aqueduct::types::{Event, Name};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let servers = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".into());
    let client = Client::connect(Options::new(servers.split(',')).name("hello")).await?;
    let channel = Name::default_channel();

    let worker = SubscribeOptions::durable(Name::new("hello")?);
    let mut subscriber = client.subscribe(channel.clone(), worker).await?;

    let publisher = client.publisher(channel, LaneChoice::Fresh).await?;
    let ack = publisher.publish(&Event::of_body("hello, world")).await?;
    println!("accepted as event {} of the channel, {} of lane {}", ack.seq, ack.sequence, ack.lane);

    loop {
        let delivery = subscriber.next().await?;
        println!("event {}: {}", delivery.seq, String::from_utf8_lossy(&delivery.event.body()));
        subscriber.ack(&[delivery.seq]).await?;
        if delivery.seq >= ack.seq {
            break;
        }
    }
    // An acknowledgement is final only when it is committed.
    let settlements = subscriber.flush().await?;
    println!("{} acknowledged", settlements.confirmed);
    Ok(())
}
