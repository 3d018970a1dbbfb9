import { styleText } from 'node:util';
import { type ClusterStatus, type ComponentStatus, isWell, type Problem } from './cluster-status.ts';
import { isComplete } from './rollout.ts';
import { saidOnce } from './said-once.ts';

const titles = {
  'isthmus-agent': 'Agent',
  'isthmus-operator': 'Operator',
  'clustermesh-apiserver': 'Cluster mesh',
  node: 'Node',
} as const;

/** The picture that `isthmus status` prints; colours are dropped where standard output takes none. */
export function statusText(status: ClusterStatus): string {
  const { cluster, chart, nodes, endpoints, routing, images, errors, warnings } = status;
  const rows: readonly Row[] = [
    ...status.components.map(componentRow),
    {
      mark: nodes.ready === nodes.total ? 'good' : 'waiting',
      title: 'Nodes',
      value: `${nodes.ready} of ${nodes.total} ready`,
    },
    ...(endpoints ? [endpointRow(endpoints)] : []),
    ...attachRow(status.attachModes),
    ...loadBalancerRow(status.loadBalancerModes),
    ...(routing ? [routingRow(routing)] : []),
  ];
  const failures = problemLines(errors, '❌', 'red');
  const cautions = problemLines(warnings, '⚠️ ', 'yellow');
  const verdict =
    failures.length > 0
      ? paint('red', count(failures.length, 'error'))
      : isWell(status)
        ? paint('green', 'OK')
        : paint('yellow', 'not ready yet');
  const lines = [
    `┌ ${paint('bold', `Cluster ${cluster.name}`)} (id ${cluster.id}) · Isthmus ${chart} · context ${status.context}`,
    '│',
    ...rows.map(rowText),
    '│',
    ...Object.entries(images).map(([image, pods]) => `│ Image ${image} in ${count(pods, 'pod')}`),
    ...(failures.length ? ['│', ...failures] : []),
    ...(cautions.length ? ['│', ...cautions] : []),
    `└ ${verdict}${cautions.length > 0 ? `, ${paint('yellow', count(cautions.length, 'warning'))}` : ''}`,
  ];
  return `${lines.join('\n')}\n`;
}

interface Row {
  readonly mark: 'good' | 'waiting' | 'off';
  readonly title: string;
  readonly value: string;
  readonly note?: string;
}

function componentRow(component: ComponentStatus): Row {
  const { name, kind, object, enabled, desired, ready, outdated } = component;
  const title = titles[name];
  if (!enabled) return { mark: 'off', title, value: 'disabled' };
  return {
    mark: isComplete(component) ? 'good' : 'waiting',
    title,
    value: `${ready} of ${desired} ready${outdated > 0 ? `, ${outdated} to be updated` : ''}`,
    note: `${kind} ${object}`,
  };
}

function endpointRow({ total, ready }: { readonly total: number; readonly ready: number }): Row {
  return {
    mark: total === ready ? 'good' : 'waiting',
    title: 'Pods',
    value: `${ready} of ${total} connected`,
  };
}

/** Only where a kernel, or the setting bpf.enableTCX, made it another than tcx. */
function attachRow(modes: ClusterStatus['attachModes']): readonly Row[] {
  const nodes = modes.tc;
  if (!nodes) return [];
  return [
    { mark: 'good', title: 'Programs', value: `tc filters on ${count(nodes, 'node')}`, note: 'no tcx' },
  ];
}

/** Only where somebody chose another than snat. */
function loadBalancerRow(modes: ClusterStatus['loadBalancerModes']): readonly Row[] {
  if (modes.every(each => each === 'snat')) return [];
  return [
    {
      mark: modes.length === 1 ? 'good' : 'waiting',
      title: 'Load balancer',
      value: modes.join(', '),
      note: modes.includes('dsr') ? 'direct server return' : 'direct server return for TCP',
    },
  ];
}

/** While a cluster changes its mode, node by node, there are two. */
function routingRow({ modes, direct, tunnel }: NonNullable<ClusterStatus['routing']>): Row {
  return {
    mark: modes.length === 1 ? 'good' : 'waiting',
    title: 'Routing',
    value: modes.join(', '),
    note: `${count(direct, 'path')} direct, ${tunnel} by tunnel`,
  };
}

function rowText({ mark, title, value, note = '' }: Row): string {
  const sign = { good: paint('green', '✔'), waiting: paint('yellow', '…'), off: paint('dim', '–') }[mark];
  return `│ ${sign} ${title.padEnd(14)}${value.padEnd(30)}${paint('dim', note)}`.trimEnd();
}

/** One line for what may be so in many places. */
function problemLines(list: readonly Problem[], sign: string, colour: 'red' | 'yellow'): string[] {
  return [...Map.groupBy(list, each => each.component)].flatMap(([component, said]) =>
    saidOnce(said.map(({ object, message }) => ({ place: object, message }))).map(
      ({ places, message }) =>
        `│ ${sign} ${paint(colour, component === 'node' ? `Node ${places}` : `${titles[component]} on ${places}`)}: ${message}`,
    ),
  );
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

function paint(style: 'bold' | 'dim' | 'red' | 'green' | 'yellow', text: string): string {
  return styleText(style, text, { stream: process.stdout });
}
