import { addressesOf, type ClusterPlan, type NodePlan } from './plan.ts';

/** A process that a node's init keeps running. */
export interface NodeService {
  /** Name of its log, /var/log/NAME.log, and of the fault target. */
  readonly name: string;
  readonly command: readonly string[];
  /** Shell condition to wait for before the first start. */
  readonly after?: string;
}

const pki = '/etc/kubernetes/pki';

/** What runs on a node besides pods, in the order of starting. */
export function nodeServices(cluster: ClusterPlan, node: NodePlan): NodeService[] {
  const api = `(exec 3<>/dev/tcp/${cluster.apiAddress}/6443) 2>/dev/null`;
  const runtime = '[ -S /run/containerd/containerd.sock ]';
  const common: NodeService[] = [
    { name: 'containerd', command: ['containerd', '--config', '/etc/containerd/config.toml'] },
    { name: 'kubelet', command: kubelet(node), after: `${runtime} && ${api}` },
  ];
  if (node.role === 'worker') return common;
  return [
    { name: 'etcd', command: etcd(node) },
    { name: 'kube-apiserver', command: apiServer(cluster, node) },
    ...common,
    { name: 'kube-controller-manager', command: controllerManager(cluster), after: api },
    { name: 'kube-scheduler', command: scheduler(), after: api },
  ];
}

function etcd(node: NodePlan): string[] {
  return [
    'etcd',
    `--name=${node.name}`,
    '--data-dir=/var/lib/etcd',
    // The disk need not survive a crash of this machine: a lab does not either.
    '--unsafe-no-fsync',
    '--listen-client-urls=https://127.0.0.1:2379',
    '--advertise-client-urls=https://127.0.0.1:2379',
    '--listen-peer-urls=https://127.0.0.1:2380',
    '--initial-advertise-peer-urls=https://127.0.0.1:2380',
    `--initial-cluster=${node.name}=https://127.0.0.1:2380`,
    '--client-cert-auth',
    `--trusted-ca-file=${pki}/etcd/ca.crt`,
    `--cert-file=${pki}/etcd/server.crt`,
    `--key-file=${pki}/etcd/server.key`,
    '--peer-client-cert-auth',
    `--peer-trusted-ca-file=${pki}/etcd/ca.crt`,
    `--peer-cert-file=${pki}/etcd/server.crt`,
    `--peer-key-file=${pki}/etcd/server.key`,
    '--listen-metrics-urls=http://127.0.0.1:2381',
  ];
}

function apiServer(cluster: ClusterPlan, node: NodePlan): string[] {
  return [
    // A third of its time to start is garbage collection, and a lab waits for that start.
    'env',
    'GOGC=300',
    'kube-apiserver',
    `--advertise-address=${node.address}`,
    '--secure-port=6443',
    '--allow-privileged',
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    `--client-ca-file=${pki}/ca.crt`,
    `--tls-cert-file=${pki}/apiserver.crt`,
    `--tls-private-key-file=${pki}/apiserver.key`,
    '--etcd-servers=https://127.0.0.1:2379',
    `--etcd-cafile=${pki}/etcd/ca.crt`,
    `--etcd-certfile=${pki}/apiserver-etcd-client.crt`,
    `--etcd-keyfile=${pki}/apiserver-etcd-client.key`,
    `--kubelet-certificate-authority=${pki}/ca.crt`,
    `--kubelet-client-certificate=${pki}/apiserver-kubelet-client.crt`,
    `--kubelet-client-key=${pki}/apiserver-kubelet-client.key`,
    '--kubelet-preferred-address-types=InternalIP,Hostname',
    `--proxy-client-cert-file=${pki}/front-proxy-client.crt`,
    `--proxy-client-key-file=${pki}/front-proxy-client.key`,
    '--requestheader-allowed-names=front-proxy-client',
    `--requestheader-client-ca-file=${pki}/front-proxy-ca.crt`,
    '--requestheader-extra-headers-prefix=X-Remote-Extra-',
    '--requestheader-group-headers=X-Remote-Group',
    '--requestheader-username-headers=X-Remote-User',
    '--enable-aggregator-routing=true',
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-key-file=${pki}/sa.pub`,
    `--service-account-signing-key-file=${pki}/sa.key`,
    `--service-cluster-ip-range=${cluster.serviceSubnet}`,
    ...gates(cluster),
    ...assignments('--runtime-config', cluster.runtimeConfig),
  ];
}

function controllerManager(cluster: ClusterPlan): string[] {
  return [
    'kube-controller-manager',
    '--bind-address=127.0.0.1',
    '--kubeconfig=/etc/kubernetes/controller-manager.conf',
    '--authentication-kubeconfig=/etc/kubernetes/controller-manager.conf',
    '--authorization-kubeconfig=/etc/kubernetes/controller-manager.conf',
    `--requestheader-client-ca-file=${pki}/front-proxy-ca.crt`,
    `--client-ca-file=${pki}/ca.crt`,
    `--root-ca-file=${pki}/ca.crt`,
    `--cluster-signing-cert-file=${pki}/ca.crt`,
    `--cluster-signing-key-file=${pki}/ca.key`,
    `--service-account-private-key-file=${pki}/sa.key`,
    '--use-service-account-credentials',
    '--controllers=*,bootstrapsigner,tokencleaner',
    '--allocate-node-cidrs',
    `--cluster-name=${cluster.name}`,
    `--cluster-cidr=${cluster.podSubnet}`,
    `--service-cluster-ip-range=${cluster.serviceSubnet}`,
    // There is one of it: an election would only make a restart wait for the old lease.
    '--leader-elect=false',
    // A dead node is noticed in 16 s instead of 50 s: drills are for watching.
    '--node-monitor-period=2s',
    '--node-monitor-grace-period=16s',
    ...gates(cluster),
  ];
}

function scheduler(): string[] {
  return [
    'kube-scheduler',
    '--bind-address=127.0.0.1',
    '--kubeconfig=/etc/kubernetes/scheduler.conf',
    '--authentication-kubeconfig=/etc/kubernetes/scheduler.conf',
    '--authorization-kubeconfig=/etc/kubernetes/scheduler.conf',
    '--leader-elect=false',
  ];
}

function kubelet(node: NodePlan): string[] {
  return [
    'kubelet',
    '--config=/var/lib/kubelet/config.yaml',
    '--kubeconfig=/etc/kubernetes/kubelet.conf',
    `--hostname-override=${node.name}`,
    `--node-ip=${addressesOf(node).join(',')}`,
    ...Object.entries(node.kubeletArgs).map(([name, value]) => `--${name}=${value}`),
  ];
}

function gates(cluster: ClusterPlan): string[] {
  return assignments('--feature-gates', cluster.featureGates);
}

function assignments(flag: string, values: Readonly<Record<string, string | boolean>>): string[] {
  const pairs = Object.entries(values).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? [] : [`${flag}=${pairs.join(',')}`];
}
