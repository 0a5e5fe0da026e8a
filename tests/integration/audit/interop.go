// Checks an exported log with Go's own packages for transparency logs, golang.org/x/mod/sumdb/{note,tlog}.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"interop/sumdb/note"
	"interop/sumdb/tlog"
)

type tiles struct{ folder string }

func (t tiles) Height() int                                    { return 8 }
func (t tiles) SaveTiles(tiles []tlog.Tile, data [][]byte)     {}
func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		// C2SP's tlog-tiles leaves out the height that sumdb writes after "tile/".
		data, err := os.ReadFile(filepath.Join(t.folder, "tile", strings.TrimPrefix(tile.Path(), "tile/8/")))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func must(err error) {
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(2)
	}
}

func open(raw []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(raw, note.VerifierList(verifier))
	must(err)
	lines := strings.SplitN(opened.Text, "\n", 2)
	if lines[0] != verifier.Name() {
		must(fmt.Errorf("the checkpoint is of another log, %s", lines[0]))
	}
	// A sumdb tree is written as a checkpoint is, under an origin of its own.
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + lines[1]))
	must(err)
	return tree
}

func main() {
	folder, vkey := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(vkey)
	must(err)
	raw, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	must(err)
	tree := open(raw, verifier)
	reader := tlog.TileHashReader(tree, tiles{folder})

	for start := int64(0); start < tree.N; start += 256 {
		width := min(256, tree.N-start)
		path := tlog.Tile{H: 8, L: 0, N: start / 256, W: int(width)}.Path()
		data, err := os.ReadFile(filepath.Join(folder, "tile", "entries", strings.TrimPrefix(path, "tile/8/0/")))
		must(err)
		for index := start; index < start+width; index++ {
			length := int(binary.BigEndian.Uint16(data))
			entry := data[2 : 2+length]
			data = data[2+length:]
			proof, err := tlog.ProveRecord(tree.N, index, reader)
			must(err)
			must(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)))
		}
	}

	lines, err := os.ReadFile(filepath.Join(folder, "checkpoints.jsonl"))
	must(err)
	checked := 0
	for _, line := range strings.Split(strings.TrimSpace(string(lines)), "\n") {
		var published struct{ Note string }
		must(json.Unmarshal([]byte(line), &published))
		old := open([]byte(published.Note), verifier)
		proof, err := tlog.ProveTree(tree.N, old.N, reader)
		must(err)
		must(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
		checked++
	}
	fmt.Printf("%d entries, %d checkpoints\n", tree.N, checked)
}
