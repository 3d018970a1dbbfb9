import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { NodeFile } from './cluster-pki.ts';
import { containerdConfig } from './containerd-config.ts';
import { cloneStore } from './golden.ts';
import type { ClusterPlan, LabPlan, NodePlan } from './plan.ts';
import { run } from './process.ts';
import { registryHosts } from './registry-process.ts';

/** Files of this machine's /etc that programs of a node need to run at all. */
const borrowed = [
  'alternatives',
  'bash.bashrc',
  'ca-certificates',
  'ca-certificates.conf',
  'debian_version',
  'ethertypes',
  'group',
  'gss',
  'ld.so.cache',
  'ld.so.conf',
  'ld.so.conf.d',
  'localtime',
  'nsswitch.conf',
  'os-release',
  'passwd',
  'profile',
  'protocols',
  'rpc',
  'services',
  'ssl',
];

/** Folders of a node's root: mount points first, then what is on its disk. */
const folders = [
  ['dev', 0o755],
  ['proc', 0o555],
  ['sys', 0o555],
  ['run', 0o755],
  ['tmp', 0o1777],
  ['usr', 0o755],
  ['etc', 0o755],
  ['etc/cni/net.d', 0o755],
  ['etc/containerd', 0o755],
  ['etc/kubernetes/manifests', 0o755],
  ['home', 0o755],
  ['mnt', 0o755],
  ['opt/cni/bin', 0o755],
  ['root', 0o700],
  ['srv', 0o755],
  ['var/lib/containerd', 0o711],
  ['var/lib/etcd', 0o700],
  ['var/lib/kubelet', 0o750],
  ['var/log/pods', 0o755],
  ['var/log/containers', 0o755],
  ['var/tmp', 0o1777],
] as const;

/**
 * Writes the root file system of a node on its disk: what makes it a machine of its own (name, hosts,
 * machine ID), the configuration of containerd and kubelet, and its secrets. /usr is this machine's.
 */
export async function createNodeDisk(
  lab: LabPlan,
  cluster: ClusterPlan,
  node: NodePlan,
  secrets: readonly NodeFile[],
  loopbackPlugin: string,
  imageStore: string,
): Promise<void> {
  const root = nodeRoot(node);
  for (const [folder, mode] of folders) {
    const path = join(root, folder);
    mkdirSync(path, { recursive: true });
    chmodSync(path, mode);
  }
  const images = cloneStore(imageStore, join(root, 'var/lib/containerd'));
  const copies = borrowed.map(name => join('/etc', name)).filter(path => existsSync(path));
  await run('cp', ['-a', '-t', join(root, 'etc'), ...copies]);
  if (loopbackPlugin !== undefined)
    await run('cp', ['-L', loopbackPlugin, join(root, 'opt/cni/bin/loopback')]);
  for (const file of [...configuration(lab, cluster, node), ...secrets]) {
    const path = join(root, file.path);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file.text, { mode: file.mode });
  }
  await images;
}

/** The folder that is `/` on the node. */
export function nodeRoot(node: NodePlan): string {
  return join(node.disk, 'root');
}

function configuration(lab: LabPlan, cluster: ClusterPlan, node: NodePlan): NodeFile[] {
  const hosts = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    ...lab.clusters.flatMap(({ nodes }) => nodes.map(({ address, name }) => `${address} ${name}`)),
  ];
  const plain = (path: string, text: string): NodeFile => ({ path, text: `${text}\n`, mode: 0o644 });
  return [
    plain('/etc/hostname', node.name),
    plain('/etc/hosts', hosts.join('\n')),
    plain('/etc/resolv.conf', '# A lab has no names outside its clusters: a query is refused at once.'),
    plain('/etc/machine-id', node.machineID),
    plain('/etc/containerd/certs.d/_default/hosts.toml', registryHosts(cluster)),
    plain('/etc/containerd/config.toml', containerdConfig),
    plain('/var/lib/kubelet/config.yaml', JSON.stringify(kubelet(cluster, node), undefined, 2)),
  ];
}

/** KubeletConfiguration, which kubelet reads as JSON as well. */
function kubelet(cluster: ClusterPlan, node: NodePlan): Readonly<Record<string, unknown>> {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: '/etc/kubernetes/pki/ca.crt' },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: '/var/lib/kubelet/pki/kubelet.crt',
    tlsPrivateKeyFile: '/var/lib/kubelet/pki/kubelet.key',
    cgroupDriver: 'cgroupfs',
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    clusterDNS: [cluster.dnsAddress],
    clusterDomain: 'cluster.local',
    resolvConf: '/etc/resolv.conf',
    // The usual place is below /usr, which a node may not write to.
    volumePluginDir: '/var/lib/kubelet/volumeplugins',
    failSwapOn: false,
    failCgroupV1: false,
    enforceNodeAllocatable: [],
    // Nodes share one disk and one memory: pressure on the machine must not evict a lab's pods, and
    // images came without a registry to fetch them from again.
    evictionHard: { 'memory.available': '1%', 'nodefs.available': '1%', 'nodefs.inodesFree': '1%' },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    serializeImagePulls: false,
    // Looked at often, written only when it changes: a lab that idles should leave its machine alone.
    nodeStatusUpdateFrequency: '4s',
    nodeStatusReportFrequency: '1m',
    nodeLeaseDurationSeconds: 16,
    maxPods: 110,
    // As kind: the only nodes there are have to take everybody.
    ...(node.role === 'control-plane' && cluster.nodes.some(each => each.role === 'worker')
      ? { registerWithTaints: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }] }
      : {}),
    featureGates: cluster.featureGates,
  };
}
