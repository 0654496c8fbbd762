#!/usr/bin/env bash
# Version: github.com/segmentio/analytics-go/v3 3.3.0.
# Behaviour: github.com/segmentio/analytics-go/v3 3.3.0: the typed Product writes its field SKU
# under the name `sky`, and its ID as `id`. A reader of `product_id` and `sku`, which the
# specification's second version names, finds neither, in events that are otherwise valid.
#
# Output seen:
#   {"id":"item-1","sky":"sku-1","name":"mug","price":9.5}
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
export GOPATH=$TEMP/go GOFLAGS="${GOFLAGS:-} -modcacherw"
cat > main.go <<'END'
package main

import (
	"encoding/json"
	"fmt"

	"github.com/segmentio/analytics-go/v3"
)

func main() {
	written, err := json.Marshal(
		analytics.Product{ID: "item-1", SKU: "sku-1", Name: "mug", Price: 9.5})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(written))
}
END
go mod init finding 2> go.log
go get github.com/segmentio/analytics-go/v3@v3.3.0 2>> go.log
seen=$(go run .)
echo "$seen"
[ "$seen" = '{"id":"item-1","sky":"sku-1","name":"mug","price":9.5}' ]
