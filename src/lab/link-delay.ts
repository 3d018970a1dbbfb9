import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../cache.ts';
import { Failure } from '../failure.ts';
import { packageRoot } from '../package-root.ts';
import { type CgroupLayout, cgroupFolders, createCgroup, killCgroup, removeCgroup } from './cgroup.ts';
import type { Link } from './link.ts';
import { ipBatch } from './network.ts';
import { stateDirectory } from './paths.ts';
import { type LabPlan, subnetsOf } from './plan.ts';
import { run, startDetached, waitFor } from './process.ts';

/** Makes a link as slow as it says, or as fast as the machine is when it has no delay. */
export async function applyDelay(layout: CgroupLayout, plan: LabPlan, link: Link): Promise<void> {
  const cgroup = `${plan.cgroup}/${link.device}`;
  // The device goes with the process, the route with the device, and packets take the direct way again.
  await killCgroup(layout, cgroup);
  await removeCgroup(layout, cgroup);
  await ipBatch(ruleLines('del', link), plan.router.namespace, true);
  if (link.delay === undefined || link.delay === 0) return;

  const relay = await buildRelay();
  createCgroup(layout, cgroup);
  const log = join(stateDirectory(plan.name), `${link.device}.log`);
  writeFileSync(log, '');
  const enter = cgroupFolders(layout, cgroup)
    .map(folder => `echo $$ > ${folder}/cgroup.procs`)
    .join(' && ');
  const command = [
    'nsenter',
    `--net=/run/netns/${plan.router.namespace}`,
    relay,
    link.device,
    String(link.delay),
  ];
  await startDetached('/bin/sh', ['-c', `${enter} && exec "$@"`, 'sh', ...command], { log });
  await waitFor(
    () => {
      const said = readFileSync(log, 'utf8');
      if (said.startsWith('ready')) return true;
      if (said !== '') throw new Failure(`link ${link.name} cannot be slow: ${said.trim()}`);
      return undefined;
    },
    {
      timeout: 5_000,
      interval: 5,
      late: () => new Failure(`link ${link.name}: its relay does not start, see ${log}`),
    },
  );
  await ipBatch(
    [
      // Addressed to the device itself, a packet is the router's own again when the relay gives it back.
      `link set ${link.device} address ${deviceAddress} up txqueuelen 1000`,
      ...[nextHop, ...(plan.router.routerAddress6 === '' ? [] : [nextHop6])].flatMap(hop => [
        `neigh replace ${hop} lladdr ${deviceAddress} dev ${link.device} nud permanent`,
        `route replace default via ${hop} dev ${link.device} onlink table ${tableOf(link)}`,
      ]),
      ...ruleLines('add', link),
    ],
    plan.router.namespace,
  );
}

const deviceAddress = '02:00:ac:00:00:02';
const nextHop = '169.254.1.1';
const nextHop6 = 'fe80::1';

function ruleLines(verb: 'add' | 'del', link: Link): string[] {
  const [a, b] = link.between;
  return (
    [
      [a, b],
      [b, a],
    ] as const
  ).flatMap(([from, to]) =>
    subnetsOf(to).map(
      subnet => `rule ${verb} iif ${from.gatewayDevice} to ${subnet} lookup ${tableOf(link)}`,
    ),
  );
}

function tableOf({ between: [a, b] }: Link): number {
  return 1000 + a.number * 100 + b.number;
}

/** Compiles the relay where it is not in the cache. */
async function buildRelay(): Promise<string> {
  const source = join(packageRoot, 'src/lab/link-relay.c');
  const hash = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 12);
  const folder = cacheFolder('build');
  const target = join(folder, `link-relay-${hash}`);
  if (existsSync(target)) return target;
  mkdirSync(folder, { recursive: true });
  const compilers = ['cc', 'gcc', 'clang', 'clang-19'];
  for (const compiler of compilers) {
    const fresh = `${target}.${process.pid}`;
    try {
      await run(compiler, ['-O2', '-Wall', '-Werror', '-o', fresh, source]);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') continue;
      throw error;
    }
    renameSync(fresh, target);
    return target;
  }
  throw new Failure(`a slow link needs a C compiler, and there is none of ${compilers.join(', ')}`, {
    hint: 'apt-get install gcc libc6-dev',
  });
}
