import { existsSync } from 'node:fs';
import { Failure } from '../failure.ts';
import { freezeCgroup, thawCgroup } from './cgroup.ts';
import type { FaultSpec } from './fault-spec.ts';
import { type Link, linksOf } from './link.ts';
import { applyDelay } from './link-delay.ts';
import { applyRates } from './link-rate.ts';
import { bootNodes, initProcess, killNode, type NodeOfLab } from './node.ts';
import { targetProcesses } from './node-process.ts';
import { executableFolder, type Lab, openLab } from './open-lab.ts';
import type { LabPlan } from './plan.ts';
import { run } from './process.ts';
import { routerRules } from './router-rules.ts';
import { lockLab, writeState } from './state.ts';
import { linkName, parseLink, parseTarget, type Target } from './target.ts';

/** One thing to do to a lab. Targets are as parseTarget reads them. */
export type FaultOrder =
  | FaultSpec
  | { readonly kind: 'resume' | 'restart'; readonly target: string }
  | { readonly kind: 'heal'; readonly target?: string | undefined };

/** Does it, and gives the faults then in force. Throws Failure where the order makes no sense. */
export async function fault(labName: string, order: FaultOrder): Promise<readonly FaultSpec[]> {
  using _lock = lockLab(labName);
  const lab = openLab(labName);
  const before = lab.state.faults;
  const after = await carryOut(lab, order);
  // Written before the network follows, so that what is half done is healed as well.
  writeState({ ...lab.state, faults: [...after] });
  await applyNetwork(lab, before, after);
  return after;
}

/** Gives the router what the lab's links and the faults say. */
export async function applyNetwork(
  lab: Pick<Lab, 'plan' | 'layout'>,
  before: readonly FaultSpec[] | undefined,
  after: readonly FaultSpec[],
): Promise<void> {
  const { plan, layout } = lab;
  const old = before === undefined ? [] : linksOf(plan, before);
  const links = linksOf(plan, after);
  const changed = (field: 'delay' | 'rate'): Link[] =>
    links.filter(link => link[field] !== old.find(({ name }) => name === link.name)?.[field]);
  await run('ip', ['netns', 'exec', plan.router.namespace, 'nft', '-f', '-'], {
    input: routerRules(plan, after),
  });
  if (changed('rate').length > 0) await applyRates(plan, links);
  for (const link of changed('delay')) await applyDelay(layout, plan, link);
}

/** A fault in words, for a list. */
export function describeFault(spec: FaultSpec): string {
  switch (spec.kind) {
    case 'cut': {
      const ways = [
        ...(spec.to === undefined ? [] : [`to ${spec.to}`]),
        ...(spec.from === undefined ? [] : [`from ${spec.from}`]),
      ];
      return `cut ${spec.target}${ways.length === 0 ? '' : ` (only ${ways.join(' and ')})`}`;
    }
    case 'pause':
    case 'kill':
      return `${spec.kind} ${spec.target}`;
    case 'slow':
      return `slow ${spec.link} ${spec.milliseconds}ms`;
    case 'lose':
      return `lose ${spec.link} ${spec.percent}%`;
    case 'rate':
      return `rate ${spec.link} ${spec.bitsPerSecond / 1e6}mbit`;
  }
}

async function carryOut(lab: Lab, order: FaultOrder): Promise<readonly FaultSpec[]> {
  const { plan } = lab;
  const { faults } = lab.state;
  switch (order.kind) {
    case 'heal':
      return await heal(lab, order.target);
    case 'slow':
    case 'lose':
    case 'rate': {
      const link = linkName(parseLink(plan, order.link));
      return [
        ...faults.filter(each => !(each.kind === order.kind && each.link === link)),
        { ...order, link },
      ];
    }
    case 'cut': {
      const canonical = checkedCut(plan, order);
      return [...faults.filter(each => JSON.stringify(each) !== JSON.stringify(canonical)), canonical];
    }
    case 'pause': {
      const target = parseTarget(plan, order.target);
      pause(lab, target);
      return [...without(faults, 'pause', nameOf(target)), { kind: 'pause', target: nameOf(target) }];
    }
    case 'resume': {
      const target = parseTarget(plan, order.target);
      resume(lab, target);
      return without(faults, 'pause', nameOf(target));
    }
    case 'kill': {
      const target = parseTarget(plan, order.target);
      if (target.kind === 'process') {
        signalProcesses(lab, target, 'SIGKILL');
        return faults;
      }
      for (const { node } of nodesOfTarget(target)) await killNode(lab.layout, plan, node);
      return [...without(faults, 'kill', nameOf(target)), { kind: 'kill', target: nameOf(target) }];
    }
    case 'restart': {
      const target = parseTarget(plan, order.target);
      if (target.kind === 'process') {
        signalProcesses(lab, target, 'SIGTERM');
        signalProcesses(lab, target, 'SIGCONT');
        return without(faults, 'pause', nameOf(target));
      }
      await restart(lab, nodesOfTarget(target));
      const gone = nodesOfTarget(target).map(({ node }) => nameOf({ ...target, kind: 'node', node }));
      return faults.filter(
        each =>
          !(
            (each.kind === 'kill' || each.kind === 'pause') &&
            (each.target === nameOf(target) || gone.some(node => each.target.split(':')[0] === node))
          ),
      );
    }
  }
}

/** Undoes all faults, or those of one target or link. */
async function heal(lab: Lab, text: string | undefined): Promise<readonly FaultSpec[]> {
  const { plan, state } = lab;
  const wanted = text === undefined ? undefined : healedName(plan, text);
  const isHealed = (each: FaultSpec): boolean =>
    wanted === undefined || wanted === ('link' in each ? each.link : each.target);
  const healed = state.faults.filter(isHealed);
  if (text !== undefined && healed.length === 0) {
    throw new Failure(`there is no fault on ${text}`, {
      hint:
        state.faults.length === 0
          ? 'there is none at all'
          : `there are: ${state.faults.map(describeFault).join('; ')}`,
    });
  }
  const dead: NodeOfLab[] = [];
  for (const each of healed) {
    if (each.kind !== 'pause' && each.kind !== 'kill') continue;
    const target = parseTarget(plan, each.target);
    if (each.kind === 'pause') resume(lab, target);
    else if (target.kind !== 'process') dead.push(...nodesOfTarget(target));
  }
  const down = [...new Set(dead.map(({ node }) => node))].filter(
    node => initProcess(lab.layout, node) === undefined,
  );
  const nodes = dead.filter(
    ({ node }, i) => down.includes(node) && dead.findIndex(d => d.node === node) === i,
  );
  if (nodes.length > 0) await restart(lab, nodes);
  return state.faults.filter(each => !isHealed(each));
}

async function restart(lab: Lab, nodes: readonly NodeOfLab[]): Promise<void> {
  await Promise.all(nodes.map(({ node }) => killNode(lab.layout, lab.plan, node)));
  await bootNodes(lab.layout, lab.plan, nodes, executableFolder(lab.plan.name));
}

function pause(lab: Lab, target: Target): void {
  if (target.kind === 'process') signalProcesses(lab, target, 'SIGSTOP');
  else for (const { node } of nodesOfTarget(target)) freezeCgroup(lab.layout, node.cgroup);
}

function resume(lab: Lab, target: Target): void {
  if (target.kind === 'process') {
    for (const pid of targetProcesses(lab.layout, target)) process.kill(pid, 'SIGCONT');
  } else for (const { node } of nodesOfTarget(target)) thawCgroup(lab.layout, node.cgroup);
}

function signalProcesses(
  lab: Lab,
  target: Target & { readonly kind: 'process' },
  signal: 'SIGKILL' | 'SIGTERM' | 'SIGSTOP' | 'SIGCONT',
): void {
  const pids = targetProcesses(lab.layout, target);
  if (pids.length === 0) throw new Failure(`${nameOf(target)} does not run`);
  for (const pid of pids) {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, signal);
  }
}

function nodesOfTarget(target: Exclude<Target, { readonly kind: 'process' }>): NodeOfLab[] {
  const { cluster } = target;
  return target.kind === 'node'
    ? [{ cluster, node: target.node }]
    : cluster.nodes.map(node => ({ cluster, node }));
}

/** A cut with its names checked and written one way. */
function checkedCut(plan: LabPlan, order: FaultSpec & { readonly kind: 'cut' }): FaultSpec {
  const link = linksOf(plan, []).find(({ between: [a, b] }) =>
    [`${a.name}-${b.name}`, `${b.name}-${a.name}`].includes(order.target),
  );
  const oneWay = order.from !== undefined || order.to !== undefined;
  if (link !== undefined && oneWay)
    throw new Failure(`--from and --to need a cluster or a node, found link "${order.target}"`, {
      exitCode: 2,
    });
  if (link !== undefined) return { kind: 'cut', target: link.name };
  const target = parseTarget(plan, order.target);
  if (target.kind === 'process' && (target.process !== 'apiserver' || oneWay)) {
    throw new Failure(
      `found target "${order.target}", expected a cluster, a node, a link or CLUSTER:apiserver`,
      {
        exitCode: 2,
        hint: 'a process can be paused or killed',
      },
    );
  }
  const end = (text: string | undefined): string | undefined => {
    if (text === undefined || text === 'host') return text;
    const place = parseTarget(plan, text);
    if (place.kind !== 'process') return nameOf(place);
    throw new Failure(`found "${text}", expected a cluster, a node or host`, { exitCode: 2 });
  };
  const [from, to] = [end(order.from), end(order.to)];
  return {
    kind: 'cut',
    target: nameOf(target),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  };
}

function healedName(plan: LabPlan, text: string): string {
  const link = linksOf(plan, []).find(({ between: [a, b] }) =>
    [`${a.name}-${b.name}`, `${b.name}-${a.name}`].includes(text),
  );
  return link?.name ?? nameOf(parseTarget(plan, text));
}

function nameOf(target: Target): string {
  const place =
    target.kind !== 'cluster' && target.node !== undefined
      ? `${target.cluster.name}/${target.node.name}`
      : target.cluster.name;
  return target.kind === 'process' ? `${place}:${target.process}` : place;
}

function without(faults: readonly FaultSpec[], kind: 'pause' | 'kill', target: string): FaultSpec[] {
  return faults.filter(each => !(each.kind === kind && each.target === target));
}
