import { isIPv6 } from 'node:net';
import type { MeshStatus, NodeProblem, Outage } from './mesh-status.ts';
import { saidOnce } from './said-once.ts';
import { someOf } from './some-of.ts';

/** The status as `cilium clustermesh status` lays it out. */
export function meshStatusText(status: MeshStatus): string {
  const { cluster, service, nodes, connected, clusters, errors, warnings, problems } = status;
  const lines: string[] = [];
  if (cluster.name === 'default' || cluster.id === 0)
    lines.push(
      `⚠️  Cluster not configured for clustermesh: it has name "${cluster.name}" and ID ${cluster.id}`,
    );
  if (service) {
    lines.push(
      `✅ Service "clustermesh-apiserver" of type "${service.type}" found`,
      '✅ Cluster access information is available:',
      ...service.ips.map(ip => `  - ${isIPv6(ip) ? `[${ip}]` : ip}:${service.port}`),
    );
  }
  lines.push(
    status.apiserverReady
      ? '✅ Deployment clustermesh-apiserver is ready'
      : '❌ Deployment clustermesh-apiserver is not ready',
    ...mirrorLines(status),
    ...localText(status.localNamespaces),
    ...status.namespaceProblems.map(each => `⚠️  ${each}`),
    ...problems.map(each => `❌ ${each}`),
    '',
  );
  const names = Object.keys(clusters);
  if (names.length > 0) {
    const spread = `[min:${connected.min} / avg:${connected.avg.toFixed(1)} / max:${connected.max}]`;
    const missing = nodes.total - nodes.connected;
    lines.push(
      missing === 0
        ? `✅ All ${nodes.total} nodes are connected to all clusters ${spread}`
        : `⚠️  ${missing}/${nodes.total} nodes are not connected to all clusters ${spread}`,
      '',
      '🔌 Cluster Connections:',
      ...names.map(name => {
        const { configured, connected: ready, states, mirrored, lastOutage } = clusters[name]!;
        const others = Object.entries(states)
          .filter(([state]) => state !== 'ready')
          .map(([state, count]) => `, ${state} on ${count}`);
        return `  - ${name}: ${configured}/${nodes.total} configured, ${ready}/${nodes.total} connected${others.join('')}${outageText(lastOutage)}${
          mirrored === undefined ? '' : ` - KVStoreMesh: ${mirrored}/${status.mirrors?.total ?? 0} connected`
        }`;
      }),
    );
  } else lines.push('🔌 No cluster connected');
  if (warnings.length) lines.push('', ...grouped(warnings, '⚠️ ', 'Warning'));
  if (errors.length) {
    lines.push('', ...grouped(errors, '❌', 'Error'));
    const agent = errors.find(each => each.node !== '');
    if (agent)
      lines.push(
        `💡 kubectl --context ${status.context} -n kube-system exec ${agent.pod} -c agent -- isthmus agent status`,
      );
  }
  return `${lines.join('\n')}\n`;
}

/** What ended an hour ago is no news. */
function outageText(outage: Outage | undefined): string {
  if (!outage || outage.age > 3600) return '';
  return `, heard again for ${Math.round(outage.age)} s after ${Math.max(1, Math.round(outage.seconds))} s of silence`;
}

/** Namespaces that other clusters know nothing of: a few by name. */
function localText(names: readonly string[]): string[] {
  if (names.length === 0) return [];
  const shown = someOf(names, 6);
  return [
    `ℹ️  Not exported, because not global: ${names.length} ${names.length === 1 ? 'namespace' : 'namespaces'} (${shown})`,
  ];
}

function mirrorLines({ mirrors }: MeshStatus): string[] {
  if (!mirrors) return ['ℹ️  Agents read remote clusters directly (no KVStoreMesh)'];
  const { min, avg, max } = mirrors.clusters;
  const spread = `[min:${min} / avg:${avg.toFixed(1)} / max:${max}]`;
  const missing = mirrors.total - mirrors.connected;
  return [
    '✅ KVStoreMesh is enabled',
    missing === 0 && mirrors.total > 0
      ? `✅ All ${mirrors.total} KVStoreMesh replicas are connected to all clusters ${spread}`
      : `⚠️  ${missing}/${mirrors.total} KVStoreMesh replicas are not connected to all clusters ${spread}`,
  ];
}

/** One line per cluster and message, with the nodes it concerns, below their number. */
function grouped(problems: readonly NodeProblem[], mark: string, title: string): string[] {
  const lines = [...Map.groupBy(problems, each => each.cluster)].flatMap(([cluster, list]) =>
    saidOnce(list.map(({ node, pod, message }) => ({ place: node || pod, message }))).map(
      ({ places, message }) => `  ${mark} ${cluster} on ${places}: ${message}`,
    ),
  );
  return [`${mark} ${lines.length} ${title}${lines.length === 1 ? '' : 's'}:`, ...lines];
}
