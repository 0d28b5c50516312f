//! Clients of a validator: transactions in, answers out, over TCP on loopback.
//!
//! In: each transaction behind its length in two bytes. Out: one byte, 1 for final and 0 for refused, the number of
//! numbers in four bytes, and the numbers in eight bytes each, all little endian.

use std::io::{self, BufWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use bytes::{Buf, Bytes, BytesMut};

use crate::block::{NUMBER, PREFIX};
use crate::route::Router;

/// Read at a time.
const CHUNK: usize = 256 << 10;

/// Serves clients on threads of their own; the address is where.
pub fn serve(router: Router) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("clients".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = client(stream, router.clone()) {
                eprintln!("client: {error}");
            }
        }
    })?;
    Ok(address)
}

fn client(stream: TcpStream, router: Router) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (sender, answers) = channel();
    let id = router.pool().client(sender);
    let out = stream.try_clone()?;
    thread::Builder::new().name("answers".into()).spawn(move || write(out, &answers))?;
    thread::Builder::new().name("client".into()).spawn(move || read(stream, id, &router))?;
    Ok(())
}

fn read(mut stream: TcpStream, id: usize, router: &Router) {
    let mut buffer = BytesMut::new();
    let mut chunk = vec![0; CHUNK];
    while let Ok(len @ 1..) = stream.read(&mut chunk) {
        buffer.extend_from_slice(&chunk[..len]);
        let (whole, fits) = whole(&buffer);
        if !fits {
            eprintln!("client: a transaction without a number");
            return;
        }
        let frames = buffer.split_to(whole).freeze();
        router.submit(id, Split(frames));
    }
}

/// Length of the frames that are complete, and whether all may be.
fn whole(bytes: &[u8]) -> (usize, bool) {
    let mut at = 0;
    while let Some(prefix) = bytes.get(at..).and_then(|rest| rest.first_chunk::<PREFIX>()) {
        let len = usize::from(u16::from_le_bytes(*prefix));
        if len < NUMBER {
            return (at, false);
        }
        if at + PREFIX + len > bytes.len() {
            break;
        }
        at += PREFIX + len;
    }
    (at, true)
}

/// Complete frames, one by one, without a copy.
pub struct Split(pub Bytes);

impl Iterator for Split {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let prefix = self.0.first_chunk::<PREFIX>()?;
        let len = PREFIX + usize::from(u16::from_le_bytes(*prefix));
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }
}

fn write(stream: TcpStream, answers: &Receiver<(Vec<u64>, bool)>) {
    let mut out = BufWriter::new(stream);
    while let Ok((numbers, is_final)) = answers.recv() {
        let mut bytes = vec![u8::from(is_final)];
        bytes.extend_from_slice(&u32::try_from(numbers.len()).unwrap_or(u32::MAX).to_le_bytes());
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Reads one answer; none when the validator has closed.
pub fn answer(stream: &mut impl Read) -> io::Result<Option<(Vec<u64>, bool)>> {
    let mut head = [0; 5];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let count = (&head[1..]).get_u32_le() as usize;
    let mut bytes = vec![0; count * NUMBER];
    stream.read_exact(&mut bytes)?;
    let numbers = bytes.chunks_exact(NUMBER).map(|mut chunk| chunk.get_u64_le()).collect();
    Ok(Some((numbers, head[0] == 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;
    use crate::route::Turns;
    use commonware_cryptography::Signer;
    use commonware_cryptography::ed25519::PrivateKey;
    use std::sync::Arc;

    #[test]
    fn transactions_and_answers_cross_the_socket() {
        let me = PrivateKey::from_seed(0).public_key();
        let turns = Arc::new(Turns::new(vec![me.clone()]));
        let router = Router::new(Pool::new(1_000), me, turns, None, Box::new(|_, _| false));
        let mut stream = TcpStream::connect(serve(router).unwrap()).unwrap();
        let mut frame = 10u16.to_le_bytes().to_vec();
        frame.extend_from_slice(&42u64.to_le_bytes());
        frame.extend_from_slice(&[9, 9]);
        // In two pieces, and once more than there is room for.
        stream.write_all(&frame[..5]).unwrap();
        stream.write_all(&frame[5..]).unwrap();
        for _ in 0..1_000 / frame.len() {
            stream.write_all(&frame).unwrap();
        }
        assert_eq!(answer(&mut stream).unwrap(), Some((vec![42], false)));
        assert_eq!(whole(&[1, 0, 0]), (0, false));
        assert_eq!(whole(&[10, 0, 0]), (0, true));
    }
}
