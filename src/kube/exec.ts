import { randomBytes } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import * as z from 'zod';
import type { ClusterAccess } from './access.ts';
import { KubeError } from './status.ts';

export interface ExecOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
  /** The program and its arguments; no shell takes part. */
  readonly command: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

/**
 * Runs a command in a container to its end, as `kubectl exec` does: WebSocket frames whose first byte is the
 * channel (1 stdout, 2 stderr, 3 the final Status), protocol v5.channel.k8s.io of Kubernetes' remotecommand.
 * Throws KubeError when the API server refuses, Error when the command could not be started or the connection broke.
 */
export async function execInPod(access: ClusterAccess, options: ExecOptions): Promise<ExecResult> {
  const { namespace, pod, container, command, signal } = options;
  const query = new URLSearchParams({ container, stdout: 'true', stderr: 'true' });
  for (const word of command) query.append('command', word);
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}/exec?${query}`;
  const { socket, head } = await upgrade(access, path, signal);
  const channels: Buffer[][] = [[], [], [], []];
  try {
    for await (const message of messages(socket, head)) channels[message[0]!]?.push(message.subarray(1));
  } finally {
    socket.destroy();
  }
  signal?.throwIfAborted();
  const [, stdout, stderr, status] = channels.map(parts => Buffer.concat(parts).toString('utf8'));
  return {
    stdout: stdout!,
    stderr: stderr!,
    exitCode: exitCodeOf(status!, `exec in pod ${namespace}/${pod}`),
  };
}

const ExecStatus = z.object({
  status: z.string(),
  reason: z.string().optional(),
  message: z.string().optional(),
  details: z
    .object({
      causes: z.array(z.object({ reason: z.string().optional(), message: z.string().optional() })).nullish(),
    })
    .nullish(),
});

function exitCodeOf(text: string, what: string): number {
  if (text === '') throw new Error(`${what}: the connection ended before the command did`);
  const status = ExecStatus.parse(JSON.parse(text));
  if (status.status === 'Success') return 0;
  const code = status.details?.causes?.find(each => each.reason === 'ExitCode')?.message;
  if (status.reason === 'NonZeroExitCode' && code !== undefined) return Number(code);
  const message = status.message ?? status.reason ?? 'failed';
  // The URL in it is the command once more; behind it stands why the API server does not get through.
  const unreached = /error (?:sending request|dialing backend): (?:Post "[^"]*": )?(.*)/.exec(message)?.[1];
  throw new Error(`${what}: ${unreached ? `its kubelet is not reached: ${unreached}` : message}`);
}

async function upgrade(
  access: ClusterAccess,
  path: string,
  signal: AbortSignal | undefined,
): Promise<{ socket: Socket; head: Buffer }> {
  const { tls, token } = await access.credentials();
  const { insecure, ...material } = tls;
  const url = new URL(path, access.server);
  const open = url.protocol === 'http:' ? httpRequest : httpsRequest;
  return new Promise((resolve, reject) => {
    const request = open(url, {
      ...material,
      rejectUnauthorized: !insecure,
      // A connection of its own: it is no HTTP connection afterwards.
      agent: false,
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': randomBytes(16).toString('base64'),
        'sec-websocket-protocol': 'v5.channel.k8s.io, v4.channel.k8s.io',
        ...(token ? { authorization: `Bearer ${token}` } : {}),
      },
      ...(signal ? { signal } : {}),
    });
    request.on('upgrade', (_response, socket, head) => resolve({ socket: socket as Socket, head }));
    request.on('response', message => refused(path, message).then(reject, reject));
    request.on('error', reject);
    request.end();
  });
}

async function refused(path: string, message: IncomingMessage): Promise<KubeError> {
  const chunks: Buffer[] = [];
  for await (const chunk of message as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  let body: unknown = text;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy on the way answers with plain text.
  }
  return new KubeError(`GET ${path.split('?')[0]}`, message.statusCode ?? 0, body);
}

/** Whole messages out of a server's WebSocket frames (RFC 6455, section 5), until it closes. */
async function* messages(socket: Socket, head: Buffer): AsyncGenerator<Buffer> {
  let held = head;
  let parts: Buffer[] = [];
  const source = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  for (;;) {
    const frame = firstFrame(held);
    if (!frame) {
      const { done, value } = await source.next();
      if (done) return;
      held = Buffer.concat([held, value]);
      continue;
    }
    held = held.subarray(frame.size);
    if (frame.opcode === 8) return;
    if (frame.opcode === 9) socket.write(pong(frame.payload));
    if (frame.opcode > 2) continue;
    parts.push(frame.payload);
    if (!frame.final) continue;
    const message = Buffer.concat(parts);
    parts = [];
    if (message.length > 0) yield message;
  }
}

function firstFrame(bytes: Buffer) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1]! & 0x7f;
  const header = short === 126 ? 4 : short === 127 ? 10 : 2;
  if (bytes.length < header) return undefined;
  const length =
    short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
  const size = header + length;
  if (bytes.length < size) return undefined;
  return {
    final: (bytes[0]! & 0x80) !== 0,
    opcode: bytes[0]! & 0x0f,
    payload: bytes.subarray(header, size),
    size,
  };
}

/** A client masks what it sends; control frames are at most 125 bytes long. */
function pong(payload: Buffer): Buffer {
  const mask = randomBytes(4);
  const masked = Buffer.from(payload.map((byte, i) => byte ^ mask[i % 4]!));
  return Buffer.concat([Buffer.from([0x8a, 0x80 | payload.length]), mask, masked]);
}
