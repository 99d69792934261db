# Forwards a port and speaks over two connections at once: forward.sh POD
exec 3< <(exec kubectl -n streams port-forward "pod/$1" :80 2>&1)
forwarder=$!
read -r line <&3
echo "$line"
port=${line#*127.0.0.1:}
port=${port%% *}
exec 4<> "/dev/tcp/127.0.0.1/$port" 5<> "/dev/tcp/127.0.0.1/$port"
echo first >&4
echo second >&5
read -r line <&5
echo "$line"
read -r line <&4
echo "$line"
# The pod ends the first; the second goes on.
echo bye >&4
cat <&4
echo again >&5
read -r line <&5
echo "$line"
kill $forwarder
wait $forwarder
echo "[ended by signal: $(($? - 128))]"
