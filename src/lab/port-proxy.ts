import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { readFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import { type CgroupLayout, cgroupFolders, createCgroup, killCgroup } from './cgroup.ts';
import { ownCommand } from './own-command.ts';
import { stateDirectory } from './paths.ts';
import type { LabPlan } from './plan.ts';
import { processEntry, startDetached, waitFor } from './process.ts';

/** Ports of this machine that lead into a lab, as kind's extraPortMappings: one process for all of a lab. */
const forwards = z.array(
  z.object({
    listenAddress: z.string(),
    hostPort: z.number(),
    protocol: z.enum(['TCP', 'UDP']),
    nodeAddress: z.string(),
    containerPort: z.number(),
  }),
);
type Forward = z.infer<typeof forwards>[number];

/** Starts the lab's port mappings, if it has any. It ends with the lab's cgroup. */
export async function startPortProxy(layout: CgroupLayout, plan: LabPlan): Promise<void> {
  const wanted = plan.clusters.flatMap(({ nodes }) =>
    nodes.flatMap(({ address, portMappings }) =>
      portMappings.map((mapping): Forward => ({ ...mapping, nodeAddress: address })),
    ),
  );
  if (wanted.length === 0) return;
  const cgroup = `${plan.cgroup}/ports`;
  createCgroup(layout, cgroup);
  const log = join(stateDirectory(plan.name), 'ports.log');
  const enter = cgroupFolders(layout, cgroup)
    .map(folder => `echo $$ > ${folder}/cgroup.procs`)
    .join(' && ');
  const command = ownCommand('lab', 'port-proxy', JSON.stringify(wanted));
  const pid = await startDetached('/bin/sh', ['-c', `${enter} && exec "$@"`, 'sh', ...command], { log });
  const said = (): Promise<string> => readFile(log, 'utf8');
  await waitFor(
    async () => {
      // Looked at before its words: what has ended has said all.
      const ended = processEntry(pid) === undefined;
      if ((await said()).includes('listening')) return true;
      if (ended)
        throw new Failure(`port mappings: ${(await said()).trim() || 'their process ended at once'}`);
      return undefined;
    },
    {
      timeout: 90_000,
      interval: 50,
      late: seconds => new Failure(`port mappings do not start within ${seconds} s, see ${log}`),
    },
  );
}

export async function stopPortProxy(layout: CgroupLayout, plan: LabPlan): Promise<void> {
  await killCgroup(layout, `${plan.cgroup}/ports`);
}

/** The process itself: forwards until it is killed. */
export async function runPortProxy(text: string): Promise<void> {
  const wanted = forwards.parse(JSON.parse(text));
  await Promise.all(wanted.map(each => (each.protocol === 'TCP' ? forwardTcp(each) : forwardUdp(each))));
  process.stdout.write('listening\n');
}

function forwardTcp(forward: Forward): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, client => {
    const node = connect({ host: forward.nodeAddress, port: forward.containerPort, allowHalfOpen: true });
    client.setNoDelay();
    node.setNoDelay();
    client.pipe(node).pipe(client);
    // One end that breaks breaks the other, as if there were nothing in between.
    client.on('error', () => node.resetAndDestroy());
    node.on('error', () => client.resetAndDestroy());
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(forward.hostPort, forward.listenAddress, resolve);
  });
}

/** Milliseconds after which a silent UDP peer is forgotten. */
const udpIdle = 60_000;

function forwardUdp(forward: Forward): Promise<void> {
  const server = createSocket('udp4');
  const peers = new Map<string, { readonly socket: DatagramSocket; timer: NodeJS.Timeout }>();
  const peerOf = (key: string, port: number, address: string) => {
    const known = peers.get(key);
    if (known !== undefined) return known;
    const socket = createSocket(forward.nodeAddress.includes(':') ? 'udp6' : 'udp4');
    socket.on('message', message => server.send(message, port, address));
    socket.on('error', () => forget(key));
    const made = { socket, timer: setTimeout(() => forget(key), udpIdle) };
    peers.set(key, made);
    return made;
  };
  const forget = (key: string): void => {
    const peer = peers.get(key);
    if (peer === undefined) return;
    peers.delete(key);
    clearTimeout(peer.timer);
    peer.socket.close();
  };
  server.on('message', (message, { address, port }) => {
    const key = `${address}:${port}`;
    const peer = peerOf(key, port, address);
    clearTimeout(peer.timer);
    peer.timer = setTimeout(() => forget(key), udpIdle);
    peer.socket.send(message, forward.containerPort, forward.nodeAddress);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.bind(forward.hostPort, forward.listenAddress, resolve);
  });
}
