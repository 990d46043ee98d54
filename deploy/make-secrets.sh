#!/bin/sh
# Makes the composed stack's secrets at its first start: 32 random bytes each, as hexadecimal digits. Each service
# sees a volume with what it shares with the gateway; the demo client signs its users' tokens with `identity`.
set -eu

GATEWAY=65532 REALTIME=1000 AI=10001 DEMO=65532

make() { # NAME: keeps an existing secret
    file=/secrets/gateway/$1
    [ -s "$file" ] || { od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$file.new" && mv "$file.new" "$file"; }
    chmod 400 "$file" && chown "$GATEWAY" "$file"
}
give() { # NAME SERVICE USER
    cp "/secrets/gateway/$1" "/secrets/$2/$1"
    chmod 400 "/secrets/$2/$1" && chown "$3" "/secrets/$2/$1"
}

make identity && make realtime && make ai
give realtime realtime "$REALTIME"
give ai ai "$AI"
give identity demo "$DEMO"
echo "secrets are ready"
