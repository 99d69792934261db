# Watches config maps on one server while another one is told of changes: watch.sh FLAGS...
other=$CLUSTER/kubeconfig-0
if [ "$KUBECONFIG" = "$other" ]; then other=$CLUSTER/kubeconfig-1; fi
kubectl -n watching create configmap one > /dev/null
exec 3< <(exec kubectl -n watching get configmaps "$@" 2>&1)
watcher=$!
# What is there already comes first.
while read -r line <&3; do
    echo "$line"
    case $line in *one*) break ;; esac
done
kubectl --kubeconfig="$other" -n watching create configmap two --from-literal=a=b > /dev/null
kubectl -n watching patch configmap one -p '{"data":{"a":"b","c":"d"}}' > /dev/null
kubectl --kubeconfig="$other" -n watching delete configmap one two > /dev/null
for change in added modified deleted deleted; do
    read -r line <&3
    echo "$line"
done
kill $watcher
