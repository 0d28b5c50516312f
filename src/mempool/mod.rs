//! Verified client transactions that wait for a block of this validator.

use std::collections::VecDeque;

use crate::types::{Payload, PayloadBuilder, Transaction, TxId};

/// Names one client's wait for one transaction, across the boundary of the node. What the numbers mean is the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Connection.
    pub client: u64,
    /// Request on it.
    pub request: u64,
}

/// A transaction whose signature was verified by this validator's pipeline.
#[derive(Debug, Clone)]
pub struct PooledTransaction {
    /// The transaction.
    pub tx: Transaction,
    /// Its id.
    pub id: TxId,
    /// Who waits for it, if the client still does.
    pub ticket: Option<Ticket>,
}

/// Most that the pool and one block may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MempoolLimits {
    /// Transactions in the pool.
    pub transactions: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Transactions of one block.
    pub block_transactions: usize,
    /// Payload bytes of one block.
    pub block_bytes: usize,
}

/// A first-in, first-out pool, bounded by count and by bytes.
#[derive(Debug)]
pub struct Mempool {
    queue: VecDeque<PooledTransaction>,
    bytes: usize,
    limits: MempoolLimits,
}

impl Mempool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: MempoolLimits) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, limits }
    }

    /// Transactions that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Appends a transaction, or gives it back if the pool is full.
    #[expect(
        clippy::result_large_err,
        reason = "the transaction goes back as it came, without an allocation"
    )]
    pub fn push(&mut self, tx: PooledTransaction) -> Result<(), PooledTransaction> {
        let len = tx.tx.bytes().len();
        if self.queue.len() >= self.limits.transactions || self.bytes + len > self.limits.bytes {
            return Err(tx);
        }
        self.bytes += len;
        self.queue.push_back(tx);
        Ok(())
    }

    /// Puts transactions of an own block that can no longer be committed back in front. They were in the pool before,
    /// so the limits allowed for them.
    pub fn put_back(&mut self, txs: Vec<PooledTransaction>) {
        for tx in txs.into_iter().rev() {
            self.bytes += tx.tx.bytes().len();
            self.queue.push_front(tx);
        }
    }

    /// Takes what fits one block, and not more than `bytes` of payload unless a single transaction is larger.
    pub fn take_block(&mut self, bytes: usize) -> (Payload, Vec<PooledTransaction>) {
        let mut builder = PayloadBuilder::default();
        let mut taken = Vec::new();
        while let Some(tx) = self.queue.front() {
            let len = tx.tx.bytes().len();
            let full = builder.len() >= self.limits.block_transactions
                || builder.bytes_len() + 4 + len > self.limits.block_bytes.min(bytes).max(4 + len);
            if full || !builder.push(tx.id, tx.tx.bytes()) {
                break;
            }
            self.bytes -= len;
            taken.extend(self.queue.pop_front());
        }
        (builder.finish(), taken)
    }
}
