# Deletes a config map while somebody waits for its end: waited.sh NAME
exec 3< <(exec kubectl -n watching wait --for=delete "configmap/$1" --timeout=60s -v=6 2>&1)
# kubectl tells its requests; the watch is the last one before it waits.
while read -r line <&3; do
    case $line in *watch=true*) break ;; esac
done
kubectl -n watching delete configmap "$1"
grep 'condition met' <&3
