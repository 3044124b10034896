//! Many BMCs in one process.

use std::time::Instant;

use futures_util::{StreamExt, stream};

use super::*;
use crate::model::power::PowerState;

const MANY: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_each_with_its_own_session() {
    let benches: Vec<Bench> = stream::iter(0..MANY).then(|_| bench(None)).collect().await;
    let began = Instant::now();
    let states: Vec<PowerState> = stream::iter(&benches)
        .map(|bench| async move {
            let client = bench.client().await;
            let state = client.power().await.unwrap();
            client.close().await.unwrap();
            state
        })
        .buffer_unordered(MANY)
        .collect()
        .await;
    eprintln!("{MANY} BMCs: logged in, asked and logged out in {:?}", began.elapsed());
    assert!(states.iter().all(|s| *s == PowerState::Off) && states.len() == MANY);
    assert!(benches.iter().all(|bench| bench.service.open_sessions() == 0));
}
