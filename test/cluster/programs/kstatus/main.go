// Package main judges objects as Flux and other users of the kstatus library do: one JSON object a line on standard input,
// one line of JSON with status and message a verdict on standard output.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The largest object that a line may hold, in bytes.
const longestLine = 4 << 20

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 0, 64<<10), longestLine)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		verdict, err := judge(lines.Bytes())
		if err == nil {
			err = out.Encode(map[string]string{"status": string(verdict.Status), "message": verdict.Message})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
}

func judge(line []byte) (*status.Result, error) {
	object := &unstructured.Unstructured{}
	// The object's own decoder, since kstatus expects whole numbers as int64 and encoding/json makes floats of them.
	if err := object.UnmarshalJSON(line); err != nil {
		return nil, err
	}
	return status.Compute(object)
}
