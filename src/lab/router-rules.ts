import type { FaultSpec } from './fault-spec.ts';
import { type Link, linksOf } from './link.ts';
import { addressesOf, type ClusterPlan, type LabPlan, type NodePlan, subnetsOf } from './plan.ts';
import { parseTarget, type Target } from './target.ts';

/**
 * The router's nftables rules for the faults in force. Packets are marked by the cable they came in on, so
 * that a rule can tell sender and receiver whatever addresses they carry: packets within a cluster are
 * judged on the bridge, where cables are known at both ends, all others when they are forwarded, before a
 * slow link takes the mark away.
 */
export function routerRules(plan: LabPlan, faults: readonly FaultSpec[]): string {
  const bridged: string[] = [];
  const forwarded: string[] = [];
  const leaving: string[] = [];
  for (const fault of faults) {
    if (fault.kind !== 'cut') continue;
    for (const { from, to } of cutsOf(plan, fault)) {
      const drop = dropRules(from, to);
      bridged.push(...drop.bridged);
      forwarded.push(...drop.forwarded);
    }
    forwarded.push(...portRules(plan, fault).map(rule => `${rule} drop`));
    bridged.push(...portRules(plan, fault).map(rule => `ether type ${rule.split(' ')[0]} ${rule} drop`));
  }
  for (const link of linksOf(plan, faults)) {
    for (const [a, b] of bothWays(link)) {
      if (link.loss !== undefined && link.loss > 0) {
        const millionths = Math.round(link.loss * 10_000);
        for (const subnet of subnetsOf(b))
          forwarded.push(
            `iifname "${a.gatewayDevice}" ${ipOf(subnet)} daddr ${subnet} numgen random mod 1000000 < ${millionths} drop`,
          );
      }
      if (link.rate !== undefined)
        leaving.push(
          `iifname { "${a.gatewayDevice}", "${link.device}" } oifname "${b.gatewayDevice}" meta priority set ${rateClass(a)}`,
        );
    }
  }
  // Adding before deleting makes deleting safe when there is nothing yet; nft takes the file as one change.
  const reset = ['bridge', 'inet'].flatMap(family => [
    `add table ${family} isthmus`,
    `delete table ${family} isthmus`,
  ]);
  if (bridged.length + forwarded.length + leaving.length === 0) return `${reset.join('\n')}\n`;
  const marks = plan.clusters
    .flatMap(cluster => cluster.nodes.map(node => `"${node.port}" : ${portMark(cluster, node)}`))
    .join(', ');
  return `${reset.join('\n')}
table bridge isthmus {
  chain arriving {
    type filter hook prerouting priority 0;
    meta mark set iifname map { ${marks} }
  }
  chain leaving {
    type filter hook postrouting priority 0;
${indented(bridged)}  }
}
table inet isthmus {
  chain arriving {
    type filter hook prerouting priority 0;
    iifname "host0" meta mark set ${hostMark}
  }
  chain forwarded {
    type filter hook forward priority 0;
${indented(forwarded)}  }
  chain leaving {
    type filter hook postrouting priority 0;
${indented(leaving)}  }
}
`;
}

/** Class of a link's packets on the receiving cluster's bridge, one for each sending cluster. */
export function rateClass(sender: ClusterPlan): string {
  return `1:${(0x10 + sender.number).toString(16)}`;
}

/** A set of senders or receivers. */
interface Place {
  readonly marks: readonly string[];
  /** Addresses or prefixes that reach it. */
  readonly addresses: readonly string[];
  readonly ports: readonly string[];
  /** This machine is in it. */
  readonly host: boolean;
}

const hostMark = '0xffff';

function portMark(cluster: ClusterPlan, node: NodePlan): string {
  return `0x${(cluster.number * 256 + cluster.nodes.indexOf(node) + 1).toString(16)}`;
}

function cutsOf(
  plan: LabPlan,
  fault: FaultSpec & { readonly kind: 'cut' },
): { readonly from: Place; readonly to: Place }[] {
  const link = linksOf(plan, []).find(({ name }) => name === fault.target);
  if (link !== undefined) {
    const [a, b] = link.between.map(clusterPlace) as [Place, Place];
    return [
      { from: a, to: b },
      { from: b, to: a },
    ];
  }
  const target = parseTarget(plan, fault.target);
  if (target.kind === 'process') return [];
  const own = placeOf(target);
  if (fault.from === undefined && fault.to === undefined) {
    const others = othersThan(plan, target);
    return [
      { from: own, to: others },
      { from: others, to: own },
    ];
  }
  return [
    ...(fault.to === undefined ? [] : [{ from: own, to: namedPlace(plan, fault.to) }]),
    ...(fault.from === undefined ? [] : [{ from: namedPlace(plan, fault.from), to: own }]),
  ];
}

/** Cutting an API server off closes its port to everything that is not on its node. */
function portRules(plan: LabPlan, fault: FaultSpec & { readonly kind: 'cut' }): string[] {
  if (!fault.target.includes(':')) return [];
  const { cluster } = parseTarget(plan, fault.target);
  return addressesOf(cluster.nodes[0]!).flatMap(address => [
    `${ipOf(address)} daddr ${address} tcp dport 6443`,
    `${ipOf(address)} saddr ${address} tcp sport 6443`,
  ]);
}

function dropRules(from: Place, to: Place): { readonly bridged: string[]; readonly forwarded: string[] } {
  const marks = [...from.marks, ...(from.host ? [hostMark] : [])];
  if (marks.length === 0) return { bridged: [], forwarded: [] };
  const sent = `meta mark { ${marks.join(', ')} }`;
  return {
    bridged:
      to.ports.length === 0
        ? []
        : [`${sent} oifname { ${to.ports.map(port => `"${port}"`).join(', ')} } drop`],
    forwarded: [
      ...(['ip', 'ip6'] as const).flatMap(family => {
        const of = to.addresses.filter(address => ipOf(address) === family);
        return of.length === 0 ? [] : [`${sent} ${family} daddr { ${of.join(', ')} } drop`];
      }),
      ...(to.host ? [`${sent} oifname "host0" drop`] : []),
    ],
  };
}

function namedPlace(plan: LabPlan, name: string): Place {
  if (name === 'host') return { marks: [], addresses: [], ports: [], host: true };
  return placeOf(parseTarget(plan, name));
}

function placeOf(target: Target): Place {
  if (target.kind === 'cluster' || target.kind === 'process') return clusterPlace(target.cluster);
  return nodePlace(target.cluster, target.node);
}

function clusterPlace(cluster: ClusterPlan): Place {
  return {
    marks: cluster.nodes.map(node => portMark(cluster, node)),
    addresses: subnetsOf(cluster),
    ports: cluster.nodes.map(({ port }) => port),
    host: false,
  };
}

function nodePlace(cluster: ClusterPlan, node: NodePlan): Place {
  return { marks: [portMark(cluster, node)], addresses: addressesOf(node), ports: [node.port], host: false };
}

/** What a cut alone separates from: for a cluster all other clusters, for a node everything, this machine too. */
function othersThan(plan: LabPlan, target: Target): Place {
  const places = plan.clusters.flatMap(cluster => {
    if (cluster !== target.cluster) return [clusterPlace(cluster)];
    if (target.kind !== 'node') return [];
    return cluster.nodes.filter(node => node !== target.node).map(node => nodePlace(cluster, node));
  });
  return {
    marks: places.flatMap(({ marks }) => marks),
    addresses: places.flatMap(({ addresses }) => addresses),
    ports: places.flatMap(({ ports }) => ports),
    host: target.kind === 'node',
  };
}

function bothWays({ between: [a, b] }: Link): readonly (readonly [ClusterPlan, ClusterPlan])[] {
  return [
    [a, b],
    [b, a],
  ];
}

/** nftables' word for the family of an address or prefix; also that of its Ethernet type. */
const ipOf = (address: string): 'ip' | 'ip6' => (address.includes(':') ? 'ip6' : 'ip');

function indented(rules: readonly string[]): string {
  return rules.map(rule => `    ${rule}\n`).join('');
}
