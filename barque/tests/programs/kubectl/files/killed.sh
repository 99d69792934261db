# Kills a client whose command runs on, and waits until that has ended too: killed.sh POD
mkfifo "$CLUSTER/alive-$1" "$CLUSTER/typed-$1"
# What the client reads never ends.
exec 5<> "$CLUSTER/typed-$1"
run="exec 9> '$CLUSTER/alive-$1'; echo runs; exec sleep 1000"
exec 3< <(exec kubectl -n streams exec -i "$1" -c c -- sh -c "$run" < "$CLUSTER/typed-$1")
client=$!
exec 4< "$CLUSTER/alive-$1"
read -r line <&3
echo "$line"
kill -KILL $client
cat <&4
echo ended
