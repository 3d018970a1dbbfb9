/**
 * The executables of other projects that the lab runs, and where each can come from. Versions are not written
 * here: they are those of the Go modules pinned under deploy/kubernetes, so that a download and a build of one
 * checkout are the same release.
 */

export type BinaryName =
  | 'kube-apiserver'
  | 'kube-controller-manager'
  | 'kube-scheduler'
  | 'kubelet'
  | 'kubectl'
  | 'agnhost'
  | 'e2e.test'
  | 'ginkgo'
  | 'regression-issue-74839'
  | 'kube-proxy'
  | 'etcd'
  | 'etcdctl'
  | 'coredns'
  | 'helm'
  | 'cnitool'
  | 'loopback'
  | 'ptp'
  | 'bridge'
  | 'host-local'
  | 'cilium-agent'
  | 'cilium-dbg'
  | 'cilium-cni'
  | 'cilium-mount'
  | 'cilium-sysctlfix'
  | 'cilium-operator'
  | 'cilium-clustermesh-apiserver'
  | 'hubble-relay';

export type ComponentName =
  | 'kubernetes'
  | 'kubernetes-e2e'
  | 'kube-proxy'
  | 'etcd'
  | 'coredns'
  | 'helm'
  | 'cnitool'
  | 'cni-plugins'
  | 'cilium';

/** A release of one project: one pinned Go module, several executables. */
export interface Component {
  readonly name: ComponentName;
  /** Folder of the pinning go.mod, below deploy/kubernetes. */
  readonly folder: string;
  /** The module in that go.mod whose version is the component's. */
  readonly module: string;
  readonly packages: Readonly<Partial<Record<BinaryName, Package>>>;
  readonly linkerFlags: (version: string) => readonly string[];
  /** Where the project publishes executables; `undefined` for one it does not publish. */
  readonly download: (binary: BinaryName, version: string) => Download | undefined;
}

/** What an executable is built of. */
export interface Package {
  /** Its main package; with `test`, the package whose tests it is. */
  readonly path: string;
  /** The name that `go build` gives it, if that is another. */
  readonly output?: string;
  /** Built by `go test -c`. */
  readonly test?: true;
}

export interface Download {
  readonly url: string;
  /** A text whose line for the file (or whose only word) is its SHA-256. */
  readonly checksumUrl: string;
  /** Path inside, if `url` is a .tar.gz. */
  readonly member?: string;
}

const architecture = process.arch === 'x64' ? 'amd64' : process.arch;

const kubernetes: Component = {
  name: 'kubernetes',
  folder: '.',
  module: 'k8s.io/kubernetes',
  packages: {
    'kube-apiserver': { path: 'k8s.io/kubernetes/cmd/kube-apiserver' },
    'kube-controller-manager': { path: 'k8s.io/kubernetes/cmd/kube-controller-manager' },
    'kube-scheduler': { path: 'k8s.io/kubernetes/cmd/kube-scheduler' },
    kubelet: { path: 'k8s.io/kubernetes/cmd/kubelet' },
    kubectl: { path: 'k8s.io/kubernetes/cmd/kubectl' },
    agnhost: { path: 'k8s.io/kubernetes/test/images/agnhost' },
  },
  linkerFlags: kubernetesFlags,
  download: (binary, version) => {
    if (binary === 'agnhost') return undefined; // only published inside an image
    const url = `https://dl.k8s.io/release/${version}/bin/linux/${architecture}/${binary}`;
    return { url, checksumUrl: `${url}.sha256` };
  },
};

/** Kubernetes' end-to-end tests. Their dependencies would change what the pinned Kubernetes is built of. */
const kubernetesE2e: Component = {
  name: 'kubernetes-e2e',
  folder: 'e2e',
  module: 'k8s.io/kubernetes',
  packages: {
    'e2e.test': { path: 'k8s.io/kubernetes/test/e2e', test: true },
    ginkgo: { path: 'github.com/onsi/ginkgo/v2/ginkgo' },
    'regression-issue-74839': { path: 'k8s.io/kubernetes/test/images/regression-issue-74839' },
  },
  linkerFlags: kubernetesFlags,
  download: (binary, version) => {
    if (binary === 'regression-issue-74839') return undefined; // only published inside an image
    const url = `https://dl.k8s.io/release/${version}/kubernetes-test-linux-${architecture}.tar.gz`;
    return { url, checksumUrl: `${url}.sha256`, member: `kubernetes/test/bin/${binary}` };
  },
};

/** What ours is measured beside. Its dependencies, too, would change what the pinned Kubernetes is built of. */
const kubeProxy: Component = {
  name: 'kube-proxy',
  folder: 'kube-proxy',
  module: 'k8s.io/kubernetes',
  packages: { 'kube-proxy': { path: 'k8s.io/kubernetes/cmd/kube-proxy' } },
  linkerFlags: kubernetesFlags,
  download: (binary, version) => {
    const url = `https://dl.k8s.io/release/${version}/bin/linux/${architecture}/${binary}`;
    return { url, checksumUrl: `${url}.sha256` };
  },
};

function kubernetesFlags(version: string): string[] {
  const [major = '', minor = ''] = version.slice(1).split('.');
  const facts = {
    gitVersion: version,
    gitMajor: major,
    gitMinor: minor,
    gitTreeState: 'clean',
    buildDate: '2026-01-01T00:00:00Z',
  };
  return Object.entries(facts).map(([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`);
}

const etcd: Component = {
  name: 'etcd',
  folder: 'etcd',
  module: 'go.etcd.io/etcd/server/v3',
  packages: {
    etcd: { path: 'go.etcd.io/etcd/server/v3', output: 'server' },
    etcdctl: { path: 'go.etcd.io/etcd/etcdctl/v3' },
  },
  linkerFlags: version => [`-X go.etcd.io/etcd/api/v3/version.GitSHA=${version}`],
  download: (binary, version) => {
    const folder = `etcd-${version}-linux-${architecture}`;
    const release = `https://github.com/etcd-io/etcd/releases/download/${version}`;
    return {
      url: `${release}/${folder}.tar.gz`,
      checksumUrl: `${release}/SHA256SUMS`,
      member: `${folder}/${binary}`,
    };
  },
};

const coredns: Component = {
  name: 'coredns',
  folder: 'coredns',
  module: 'github.com/coredns/coredns',
  packages: { coredns: { path: '.' } },
  linkerFlags: version => [`-X github.com/coredns/coredns/coremain.GitCommit=${version}`],
  download: (_binary, version) => {
    const release = `https://github.com/coredns/coredns/releases/download/${version}`;
    const url = `${release}/coredns_${version.slice(1)}_linux_${architecture}.tgz`;
    return { url, checksumUrl: `${url}.sha256`, member: 'coredns' };
  },
};

const helm: Component = {
  name: 'helm',
  folder: 'helm',
  module: 'helm.sh/helm/v3',
  packages: { helm: { path: 'helm.sh/helm/v3/cmd/helm' } },
  linkerFlags: version => [
    `-X helm.sh/helm/v3/internal/version.version=${version}`,
    '-X helm.sh/helm/v3/internal/version.gitTreeState=clean',
  ],
  download: (_binary, version) => {
    const url = `https://get.helm.sh/helm-${version}-linux-${architecture}.tar.gz`;
    return { url, checksumUrl: `${url}.sha256sum`, member: `linux-${architecture}/helm` };
  },
};

const cnitool: Component = {
  name: 'cnitool',
  folder: 'cnitool',
  module: 'github.com/containernetworking/cni',
  packages: { cnitool: { path: 'github.com/containernetworking/cni/cnitool' } },
  linkerFlags: () => [],
  download: () => undefined,
};

/** `loopback` is what containerd itself asks for; the others are what ours is measured beside. */
const cniPlugins: Component = {
  name: 'cni-plugins',
  folder: 'cni-plugins',
  module: 'github.com/containernetworking/plugins',
  packages: {
    loopback: { path: 'github.com/containernetworking/plugins/plugins/main/loopback' },
    ptp: { path: 'github.com/containernetworking/plugins/plugins/main/ptp' },
    bridge: { path: 'github.com/containernetworking/plugins/plugins/main/bridge' },
    'host-local': { path: 'github.com/containernetworking/plugins/plugins/ipam/host-local' },
  },
  linkerFlags: version => [
    `-X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=${version}`,
  ],
  download: (binary, version) => {
    const release = `https://github.com/containernetworking/plugins/releases/download/${version}`;
    const url = `${release}/cni-plugins-linux-${architecture}-${version}.tgz`;
    return { url, checksumUrl: `${url}.sha256`, member: binary };
  },
};

/** The peer that ours is measured beside and joined with in tests; nothing of it is in our image. */
const cilium: Component = {
  name: 'cilium',
  folder: 'cilium',
  module: 'github.com/cilium/cilium',
  packages: {
    'cilium-agent': { path: 'github.com/cilium/cilium/daemon' },
    'cilium-dbg': { path: 'github.com/cilium/cilium/cilium-dbg' },
    'cilium-cni': { path: 'github.com/cilium/cilium/plugins/cilium-cni' },
    'cilium-mount': { path: 'github.com/cilium/cilium/tools/mount' },
    'cilium-sysctlfix': { path: 'github.com/cilium/cilium/tools/sysctlfix' },
    'cilium-operator': { path: 'github.com/cilium/cilium/operator' },
    'cilium-clustermesh-apiserver': { path: 'github.com/cilium/cilium/clustermesh-apiserver' },
    'hubble-relay': { path: 'github.com/cilium/cilium/hubble-relay' },
  },
  linkerFlags: version => [`-X github.com/cilium/cilium/pkg/version.ciliumVersion=${version.slice(1)}`],
  download: () => undefined, // only published inside images
};

export const components: readonly Component[] = [
  kubernetes,
  kubernetesE2e,
  kubeProxy,
  etcd,
  coredns,
  helm,
  cnitool,
  cniPlugins,
  cilium,
];

export function componentOf(binary: BinaryName): Component {
  const component = components.find(candidate => binary in candidate.packages);
  if (!component) throw new Error(`no component provides the binary '${binary}'`);
  return component;
}
