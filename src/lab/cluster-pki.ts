import { nthAddress, withPort } from './address.ts';
import { type Authority, createAuthority, createSigningKeys, type KeyPair } from './pki.ts';
import { addressesOf, type ClusterPlan, type NodePlan } from './plan.ts';

/** A file of a node: its path there, its text, and its mode. */
export interface NodeFile {
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

/** What a cluster's secrets come to: files for each node, and the administrator's kubeconfig. */
export interface ClusterSecrets {
  readonly files: ReadonlyMap<string, readonly NodeFile[]>;
  readonly admin: AdminCredentials;
}

export interface AdminCredentials extends KeyPair {
  /** Certificate of the cluster's authority. */
  readonly authority: string;
}

const pki = '/etc/kubernetes/pki';

/**
 * Makes the authorities, keys and certificates of one cluster, with kubeadm's names and places. Nodes are
 * known by certificates of their own (`system:node:NAME`, group `system:nodes`), so that the Node
 * authorizer judges them as anywhere else.
 */
export async function createClusterSecrets(cluster: ClusterPlan): Promise<ClusterSecrets> {
  const [ca, frontProxy, etcd] = await Promise.all([
    createAuthority(`kubernetes-${cluster.name}`),
    createAuthority('front-proxy-ca'),
    createAuthority('etcd-ca'),
  ]);
  const admin = await ca.sign({
    commonName: 'kubernetes-admin',
    organizations: ['system:masters'],
    usages: ['client'],
  });
  const files = new Map<string, readonly NodeFile[]>();
  await Promise.all(
    cluster.nodes.map(async node => {
      const own = await nodeFiles(cluster, node, ca);
      const control =
        node.role === 'control-plane'
          ? await controlPlaneFiles(cluster, node, ca, frontProxy, etcd, admin)
          : [];
      files.set(node.name, [...own, ...control]);
    }),
  );
  return { files, admin: { ...admin, authority: ca.certificate } };
}

/** A kubeconfig of one cluster with one user. `name` stands for cluster, user and context. */
export function renderKubeconfig(name: string, server: string, credentials: AdminCredentials): string {
  return `${JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name, cluster: { server, 'certificate-authority-data': base64(credentials.authority) } }],
      users: [
        {
          name,
          user: {
            'client-certificate-data': base64(credentials.certificate),
            'client-key-data': base64(credentials.key),
          },
        },
      ],
      contexts: [{ name, context: { cluster: name, user: name } }],
      'current-context': name,
    },
    undefined,
    2,
  )}\n`;
}

async function nodeFiles(cluster: ClusterPlan, node: NodePlan, ca: Authority): Promise<NodeFile[]> {
  const client = await ca.sign({
    commonName: `system:node:${node.name}`,
    organizations: ['system:nodes'],
    usages: ['client'],
  });
  const server = await ca.sign({
    commonName: node.name,
    usages: ['server'],
    dnsNames: [node.name],
    addresses: addressesOf(node),
  });
  return [
    secret(
      '/etc/kubernetes/kubelet.conf',
      renderKubeconfig(cluster.name, apiServer(cluster), { ...client, authority: ca.certificate }),
    ),
    open(`${pki}/ca.crt`, ca.certificate),
    ...pair('/var/lib/kubelet/pki/kubelet', server),
  ];
}

async function controlPlaneFiles(
  cluster: ClusterPlan,
  node: NodePlan,
  ca: Authority,
  frontProxy: Authority,
  etcd: Authority,
  admin: KeyPair,
): Promise<NodeFile[]> {
  const [server, kubelet, proxy, etcdServer, etcdClient, controllers, scheduler] = await Promise.all([
    ca.sign({
      commonName: 'kube-apiserver',
      usages: ['server'],
      dnsNames: [
        'kubernetes',
        'kubernetes.default',
        'kubernetes.default.svc',
        'kubernetes.default.svc.cluster.local',
        'localhost',
        node.name,
      ],
      addresses: [
        ...cluster.serviceSubnet.split(',').map(each => nthAddress(each, 1)),
        ...addressesOf(node),
        '127.0.0.1',
      ],
    }),
    ca.sign({ commonName: 'kube-apiserver-kubelet-client', usages: ['client'] }),
    frontProxy.sign({ commonName: 'front-proxy-client', usages: ['client'] }),
    etcd.sign({
      commonName: node.name,
      usages: ['server', 'client'],
      dnsNames: ['localhost', node.name],
      addresses: ['127.0.0.1', ...addressesOf(node)],
    }),
    etcd.sign({ commonName: 'kube-apiserver-etcd-client', usages: ['client'] }),
    ca.sign({ commonName: 'system:kube-controller-manager', usages: ['client'] }),
    ca.sign({ commonName: 'system:kube-scheduler', usages: ['client'] }),
  ]);
  const serviceAccounts = createSigningKeys();
  const kubeconfig = (name: string, credentials: KeyPair): NodeFile =>
    secret(
      `/etc/kubernetes/${name}.conf`,
      renderKubeconfig(cluster.name, apiServer(cluster), { ...credentials, authority: ca.certificate }),
    );
  return [
    secret(`${pki}/ca.key`, ca.key),
    open(`${pki}/front-proxy-ca.crt`, frontProxy.certificate),
    open(`${pki}/etcd/ca.crt`, etcd.certificate),
    ...pair(`${pki}/apiserver`, server),
    ...pair(`${pki}/apiserver-kubelet-client`, kubelet),
    ...pair(`${pki}/front-proxy-client`, proxy),
    ...pair(`${pki}/etcd/server`, etcdServer),
    ...pair(`${pki}/apiserver-etcd-client`, etcdClient),
    open(`${pki}/sa.pub`, serviceAccounts.publicKey),
    secret(`${pki}/sa.key`, serviceAccounts.privateKey),
    kubeconfig('admin', admin),
    kubeconfig('controller-manager', controllers),
    kubeconfig('scheduler', scheduler),
  ];
}

/** Where everything reaches the cluster's API server: the address of the control-plane node. */
export function apiServer(cluster: ClusterPlan): string {
  return `https://${withPort(cluster.apiAddress, 6443)}`;
}

function pair(path: string, keys: KeyPair): NodeFile[] {
  return [open(`${path}.crt`, keys.certificate), secret(`${path}.key`, keys.key)];
}

function open(path: string, text: string): NodeFile {
  return { path, text: text.endsWith('\n') ? text : `${text}\n`, mode: 0o644 };
}

function secret(path: string, text: string): NodeFile {
  return { ...open(path, text), mode: 0o600 };
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
