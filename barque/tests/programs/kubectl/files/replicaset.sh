# Makes what a deployment's controller would have made of a revision: replicaset.sh DEPLOYMENT REVISION
uid=$(kubectl -n rollouts get deployment "$1" -o jsonpath='{.metadata.uid}')
sed "s/NAME/$1/g; s/UID/$uid/; s/REVISION/$2/g" files/replicaset.json | kubectl -n rollouts create -f -
