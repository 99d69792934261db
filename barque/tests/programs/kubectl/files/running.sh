# Makes a pod with the containers c and side run on a node, as its agent would say: running.sh POD NODE ADDRESS
set -e
containers='[{"name":"c","image":"i","ports":[{"containerPort":'$POD_PORT'}]},{"name":"side","image":"i"}]'
pod='"apiVersion":"v1","kind":"Pod","metadata":{"name":"'$1'","namespace":"streams","labels":{"app":"'$1'"}}'
echo "{$pod,\"spec\":{\"nodeName\":\"$2\",\"containers\":$containers}}" | kubectl create -f -
status='{"phase":"Running","podIP":"'$3'","podIPs":[{"ip":"'$3'"}],"conditions":[{"type":"Ready","status":"True"}]}'
echo "{$pod,\"status\":$status}" > "$CLUSTER/status.json"
kubectl replace --raw "/api/v1/namespaces/streams/pods/$1/status" -f "$CLUSTER/status.json" > /dev/null
mkdir -p "$CLUSTER/node/$1/c" "$CLUSTER/node/$1/side"
