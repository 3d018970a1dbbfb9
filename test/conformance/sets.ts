import type { IPFamily, ShapeName } from './cluster-shape.ts';
import type { Announcement } from './load-balancer.ts';

/** A named selection of Kubernetes' own specs. */
export interface SpecSet {
  readonly name: SetName;
  readonly description: string;
  /** Regular expression on a spec's full text. */
  readonly focus: string;
  /** Specs in the focus that another set has. */
  readonly elsewhere: readonly string[];
  /** Specs in the focus that are not run at all, and why. */
  readonly leftOut: readonly LeftOut[];
  readonly shape: ShapeName;
  /** Services of type LoadBalancer get addresses, and who brings packets to the nodes. */
  readonly announcement?: Announcement;
}

export interface LeftOut {
  readonly pattern: string;
  readonly reason: string;
}

export const setNames = [
  'conformance',
  'extended',
  'services',
  'dualstack',
  'zones',
  'loadbalancer',
  'l2',
  'netpol',
] as const;
export type SetName = (typeof setNames)[number];

/** What no cluster of a lab can be asked. */
const notHere: readonly LeftOut[] = [
  { pattern: 'SCTP', reason: 'this kernel has no SCTP (CONFIG_IP_SCTP)' },
  { pattern: 'Internet connection', reason: 'a lab has no way out of the machine' },
  { pattern: 'Provider:GCE', reason: 'needs Google Cloud' },
  {
    pattern: String.raw`\[Disruptive\]`,
    reason: 'deletes the pod of kube-proxy or of the API server, or iptables rules by ssh',
  },
  { pattern: String.raw`\[Flaky\]`, reason: 'Kubernetes itself calls it flaky' },
  { pattern: 'OffByDefault', reason: 'needs a feature gate that is off by default' },
  { pattern: 'PerformanceDNS', reason: 'creates 10,000 services to measure DNS' },
  { pattern: 'Forward PTR lookup', reason: 'a lab has no way out of the machine' },
  { pattern: 'IPerf2', reason: 'wants the output of iperf 2.2, which Debian 12 has not' },
];

/** What a cluster of the family can not be asked. */
export function leftOutWith(family: IPFamily): readonly LeftOut[] {
  if (family === 'dual') return [];
  const dualStack = {
    pattern: 'Feature:IPv6DualStack',
    reason: 'wants a dual-stack cluster (--ip-family dual)',
  };
  if (family === 'ipv4') return [dualStack];
  // test/e2e/network/loadbalancer.go of Kubernetes 1.34: strings.Split(stdout, ":")[0]
  const firstColon = {
    pattern: 'LoadBalancers ExternalTrafficPolicy: Local .* should work from pods',
    reason: "takes a client's address up to its first colon",
  };
  return [dualStack, firstColon];
}

/** Specs that look at kube-proxy's own process, not at what a service does. */
const kubeProxyItself: readonly LeftOut[] = [
  { pattern: 'KubeProxyDaemonSetMigration', reason: 'migrates kube-proxy between forms of deployment' },
  { pattern: 'KubeProxyNFAcct', reason: "reads a counter of kube-proxy's iptables mode" },
  {
    pattern: 'KubeProxy should set TCP CLOSE_WAIT timeout',
    reason: "reads the timeout that kube-proxy sets in netfilter's table of connections",
  },
  { pattern: 'should check kube-proxy urls', reason: "asks kube-proxy's own port for its mode" },
];

const conformance = String.raw`\[Conformance\]`;
const loadBalancer = 'Feature:LoadBalancer';
const networkPolicy = 'Feature:NetworkPolicy';
const traffic = 'Traffic Distribution should route traffic';

export const sets: Readonly<Record<SetName, SpecSet>> = {
  conformance: {
    name: 'conformance',
    description: 'what every cluster that calls itself Kubernetes must pass',
    focus: String.raw`\[sig-network\].*\[Conformance\]`,
    elsewhere: [],
    leftOut: [],
    shape: 'zones',
  },
  extended: {
    name: 'extended',
    description: 'the other specs of the network, but for load balancers and policies',
    focus: String.raw`\[sig-network\]`,
    elsewhere: [conformance, loadBalancer, networkPolicy],
    leftOut: [...kubeProxyItself, ...notHere],
    shape: 'zones',
  },
  services: {
    name: 'services',
    description: 'those of extended that are about services',
    focus: String.raw`\[sig-network\] (Services|Networking Granular Checks: Services|Conntrack|NoSNAT|Connectivity Pod Lifecycle)`,
    elsewhere: [conformance, loadBalancer],
    leftOut: notHere,
    shape: 'zones',
  },
  dualstack: {
    name: 'dualstack',
    description: 'those of extended that want a dual-stack cluster',
    focus: 'Feature:IPv6DualStack',
    elsewhere: [],
    leftOut: notHere,
    shape: 'zones',
  },
  zones: {
    name: 'zones',
    description: 'those of extended that want three zones of two nodes each',
    focus: traffic,
    elsewhere: [],
    leftOut: [],
    shape: 'double-zones',
  },
  loadbalancer: {
    name: 'loadbalancer',
    description: 'services of type LoadBalancer, whose addresses a router sends to the nodes',
    focus: loadBalancer,
    elsewhere: [],
    leftOut: notHere.filter(({ pattern }) => pattern !== 'SCTP'),
    shape: 'zones',
    announcement: 'router',
  },
  l2: {
    name: 'l2',
    description: 'the same, their addresses announced by nodes on their link',
    focus: loadBalancer,
    elsewhere: [],
    leftOut: [
      {
        pattern:
          'should target all nodes with endpoints|switch session affinity for LoadBalancer service with Local',
        reason: 'wants local endpoints of several nodes; on a link one node answers for an address',
      },
    ],
    shape: 'zones',
    announcement: 'link',
  },
  netpol: {
    name: 'netpol',
    description: 'NetworkPolicy',
    focus: String.raw`\[sig-network\] Netpol`,
    elsewhere: [],
    leftOut: notHere,
    shape: 'zones',
  },
};
