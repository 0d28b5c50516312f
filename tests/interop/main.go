// Checks a log that Salus wrote with the implementation of Merkle logs and signed notes that the Go project maintains
// for its module checksum database (golang.org/x/mod/sumdb), and writes proofs of its own for Salus to check.
//
// Usage: interop <folder> <proofs>
//
//	interop batch <file>
//
// <folder> holds the log as C2SP tlog-tiles: `tile/…`, `checkpoint` (signed note), `checkpoint.old` (an earlier one) and
// `keys` (verifier keys, one a line; every one of them must have signed both checkpoints). Proofs go to <proofs>.
//
// <file> is a batch of commitments: its root, then for each member a line of its commitment and its path, all in base64.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height    = 8
	width     = 1 << height
	cosigType = 0x04
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: interop <folder> <proofs> | interop batch <file>")
		os.Exit(2)
	}
	check := func() error { return run(os.Args[1], os.Args[2]) }
	if os.Args[1] == "batch" {
		check = func() error { return batch(os.Args[2]) }
	}
	if err := check(); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}

func run(folder, proofs string) error {
	keys, err := readKeys(filepath.Join(folder, "keys"))
	if err != nil {
		return err
	}
	now, signed, err := openCheckpoint(filepath.Join(folder, "checkpoint"), keys)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	old, _, err := openCheckpoint(filepath.Join(folder, "checkpoint.old"), keys)
	if err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	tiles := &folderTiles{folder: folder, cache: map[tlog.Tile][]byte{}}
	hashes := tlog.TileHashReader(now, tiles)
	root, err := tlog.TreeHash(now.N, hashes)
	if err != nil {
		return fmt.Errorf("tree hash: %w", err)
	}
	if root != now.Hash {
		return errors.New("the tiles have another root than the checkpoint")
	}
	leaves, err := leafHashes(folder, now.N)
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
		if err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
		if stored[0] != leaf {
			return fmt.Errorf("leaf %d: the entry bundle and the hash tile differ", i)
		}
	}
	for _, i := range sample(now.N) {
		path, err := tlog.ProveRecord(now.N, i, hashes)
		if err != nil {
			return fmt.Errorf("proof of leaf %d: %w", i, err)
		}
		if err := tlog.CheckRecord(path, now.N, now.Hash, i, leaves[i]); err != nil {
			return fmt.Errorf("proof of leaf %d: %w", i, err)
		}
		if err := writeInclusion(proofs, i, path, signed); err != nil {
			return err
		}
	}
	path, err := tlog.ProveTree(now.N, old.N, hashes)
	if err != nil {
		return fmt.Errorf("proof from %d to %d: %w", old.N, now.N, err)
	}
	if err := tlog.CheckTree(path, now.N, now.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("proof from %d to %d: %w", old.N, now.N, err)
	}
	if err := writeLines(filepath.Join(proofs, "consistency"), path); err != nil {
		return err
	}
	fmt.Printf("%d leaves, %d keys\n", now.N, len(keys))
	return nil
}

// batch checks the root and every path of a batch, and that its own paths are the same.
func batch(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	root, err := tlog.ParseHash(lines[0])
	if err != nil {
		return err
	}
	members := lines[1:]
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	var leaves []tlog.Hash
	var paths []tlog.RecordProof
	for i, line := range members {
		var hashes []tlog.Hash
		for _, field := range strings.Fields(line) {
			hash, err := tlog.ParseHash(field)
			if err != nil {
				return fmt.Errorf("member %d: %w", i, err)
			}
			hashes = append(hashes, hash)
		}
		leaf := tlog.RecordHash(hashes[0][:])
		more, err := tlog.StoredHashesForRecordHash(int64(i), leaf, reader)
		if err != nil {
			return fmt.Errorf("member %d: %w", i, err)
		}
		stored = append(stored, more...)
		leaves, paths = append(leaves, leaf), append(paths, hashes[1:])
	}
	n := int64(len(members))
	if own, err := tlog.TreeHash(n, reader); err != nil || own != root {
		return fmt.Errorf("the commitments have root %v (%v), not %v", own, err, root)
	}
	for i, leaf := range leaves {
		if err := tlog.CheckRecord(paths[i], n, root, int64(i), leaf); err != nil {
			return fmt.Errorf("member %d: %w", i, err)
		}
		own, err := tlog.ProveRecord(n, int64(i), reader)
		if err != nil {
			return fmt.Errorf("member %d: %w", i, err)
		}
		if fmt.Sprint(own) != fmt.Sprint(paths[i]) {
			return fmt.Errorf("member %d: another path than %v", i, own)
		}
	}
	fmt.Printf("%d members\n", n)
	return nil
}

// sample picks every leaf of a small log, and the leaves around the borders of tiles of a larger one.
func sample(n int64) []int64 {
	var out []int64
	for i := int64(0); i < n; i++ {
		edge := i%width < 2 || i%width > width-3
		if n <= 600 || i > n-3 || edge && (i < 4*width || i > 254*width) || i%4999 == 0 {
			out = append(out, i)
		}
	}
	return out
}

// folderTiles reads hash tiles by their C2SP paths.
type folderTiles struct {
	folder string
	cache  map[tlog.Tile][]byte
}

func (t *folderTiles) Height() int { return height }

func (t *folderTiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *folderTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		data, ok := t.cache[tile]
		if !ok {
			var err error
			data, err = os.ReadFile(filepath.Join(t.folder, tilePath(strconv.Itoa(tile.L), tile.N, tile.W)))
			if err != nil {
				return nil, err
			}
			t.cache[tile] = data
		}
		out = append(out, data)
	}
	return out, nil
}

func tilePath(level string, n int64, w int) string {
	index := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		index = fmt.Sprintf("x%03d/%s", n%1000, index)
	}
	path := "tile/" + level + "/" + index
	if w < width {
		path += fmt.Sprintf(".p/%d", w)
	}
	return path
}

// leafHashes hashes the entries of all bundles.
func leafHashes(folder string, size int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for n := int64(0); n*width < size; n++ {
		w := size - n*width
		if w > width {
			w = width
		}
		data, err := os.ReadFile(filepath.Join(folder, tilePath("entries", n, int(w))))
		if err != nil {
			return nil, err
		}
		for i := int64(0); i < w; i++ {
			if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("entry bundle %d ends within entry %d", n, i)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			out = append(out, tlog.RecordHash(data[2:end]))
			data = data[end:]
		}
		if len(data) > 0 {
			return nil, fmt.Errorf("entry bundle %d has bytes behind its last entry", n)
		}
	}
	return out, nil
}

func readKeys(path string) ([]note.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []note.Verifier
	for _, line := range strings.Fields(string(text)) {
		key, err := newVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", line, err)
		}
		out = append(out, key)
	}
	return out, nil
}

// newVerifier knows Ed25519 keys by x/mod itself and cosigners by c2sp.org/tlog-cosignature.
func newVerifier(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not name+id+key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, err
	}
	if len(key) == 0 || key[0] != cosigType {
		return note.NewVerifier(vkey)
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if len(key) != 1+ed25519.PublicKeySize || uint32(id) != binary.BigEndian.Uint32(sum[:]) {
		return nil, errors.New("the id is not the key's")
	}
	return cosigner{parts[0], uint32(id), ed25519.PublicKey(key[1:])}, nil
}

type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.id }

func (c cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), text)
	return ed25519.Verify(c.key, []byte(message), sig[8:])
}

// openCheckpoint demands the signature of every key.
func openCheckpoint(path string, keys []note.Verifier) (tlog.Tree, string, error) {
	signed, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, "", err
	}
	n, err := note.Open(signed, note.VerifierList(keys...))
	if err != nil {
		return tlog.Tree{}, "", err
	}
	if len(n.Sigs) != len(keys) || len(n.UnverifiedSigs) != 0 {
		return tlog.Tree{}, "", fmt.Errorf("%d of %d keys signed, and %d others", len(n.Sigs), len(keys), len(n.UnverifiedSigs))
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" || lines[0] != keys[0].Name() {
		return tlog.Tree{}, "", errors.New("not origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, "", fmt.Errorf("tree size %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return tlog.Tree{}, "", err
	}
	return tlog.Tree{N: size, Hash: root}, string(signed), nil
}

// writeInclusion writes a proof by c2sp.org/tlog-proof.
func writeInclusion(proofs string, index int64, path []tlog.Hash, checkpoint string) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, hash := range path {
		fmt.Fprintln(&out, hash)
	}
	fmt.Fprintf(&out, "\n%s", checkpoint)
	return os.WriteFile(filepath.Join(proofs, fmt.Sprintf("%d.tlog-proof", index)), out.Bytes(), 0o644)
}

func writeLines(path string, hashes []tlog.Hash) error {
	var out bytes.Buffer
	for _, hash := range hashes {
		fmt.Fprintln(&out, hash)
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
