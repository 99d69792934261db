# Says the status of an object as its controller would: status.sh PATH STATUS
kubectl get --raw "$1" | sed 's|"status":{.*|"status":'"$2"'}|' > "$CLUSTER/status.json"
kubectl replace --raw "$1/status" -f "$CLUSTER/status.json" > /dev/null
