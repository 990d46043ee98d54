//! A writer of a collaborative document. After each broken connection a new editor that knows nothing reads the
//! document: what was acknowledged must be there, from the server alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use blackbox::{
    Sut,
    collab::Collab,
    random::{Random, unique},
    wait::eventually,
};

use crate::cases::collab::FIELD;

/// Writes until told to stop; how many updates were acknowledged, all of them read back.
pub(crate) async fn write(sut: Arc<Sut>, mut random: Random, stop: Arc<AtomicBool>) -> Result<usize> {
    let token = sut.token(&unique())?;
    let note =
        eventually("a note", Duration::from_secs(30), || sut.create_note(&token, "document", "x")).await?;
    let document = format!("note:{}", note["id"].as_str().context("a note without an id")?);
    let url = sut.collab_url(&token);
    let mut editors = sut.editors()?;
    let (mut acknowledged, mut lives): (Vec<String>, usize) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let editor = format!("life {lives}");
        lives += 1;
        if editors.open(&editor, &url, &document).await.is_ok() {
            complete(&mut editors, &editor, &acknowledged).await?;
            while !stop.load(Ordering::Relaxed) {
                let update = format!("{};", random.word());
                if !editors.write_or_break(&editor, FIELD, &update).await? {
                    break;
                }
                acknowledged.push(update);
                tokio::time::sleep(Duration::from_millis(random.within(5..40))).await;
            }
        }
        // Before it can connect again and bring back what the server has lost.
        editors.close(&editor).await?;
    }
    let last = "the last reader";
    editors.open(last, &url, &document).await?;
    complete(&mut editors, last, &acknowledged).await?;
    Ok(acknowledged.len())
}

async fn complete(editors: &mut Collab, editor: &str, acknowledged: &[String]) -> Result<()> {
    let text = editors.text(editor, FIELD).await?;
    let lost: Vec<_> = acknowledged.iter().filter(|update| !text.contains(*update)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} acknowledged updates are lost, the first being number {:?}; {editor} sees {} bytes",
        lost.len(),
        acknowledged.len(),
        acknowledged.iter().position(|update| update == lost[0]),
        text.len()
    );
    Ok(())
}
