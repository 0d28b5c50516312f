//! SIGKILL under load.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_go_on_without_the_fourth_and_it_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start(dir.path()).await;
    let load = Load::start(&network).await;
    load.wait_for_more(300).await;
    network.kill(3);
    let size = network.api().status(&network.endpoint(0).http).await.unwrap().tree_size;
    load.wait_for_more(10 * WINDOW).await;
    network.start(3).unwrap();
    network.wait_ready(3, WITHIN).await.unwrap();
    load.wait_for_more(5 * WINDOW).await;
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    let caught_up = network.api().status(&network.endpoint(3).http).await.unwrap();
    assert!(caught_up.tree_size > size, "the others went on while it was down");
    assert_nothing_is_missing(&network, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_missing_after_all_four_were_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = start(dir.path()).await;
    let load = Load::start(&network).await;
    load.wait_for_more(400).await;
    for index in 0..4 {
        network.kill(index);
    }
    let before = load.so_far();
    assert!(before.len() >= 400);
    network.start_all().unwrap();
    network.wait_all_ready(WITHIN).await.unwrap();
    assert_nothing_is_missing(&network, &before).await;
    // What was on the way is submitted again, and more.
    load.wait_for_more(5 * WINDOW).await;
    let acknowledged = load.finish().await;
    assert_agreement(&network, &acknowledged).await;
    assert_nothing_is_missing(&network, &acknowledged).await;
    for index in 0..4 {
        let status = network.stop(index).await.expect("ends when it is asked to");
        assert!(status.success(), "{status}, see {}", network.log_path(index).display());
    }
}
