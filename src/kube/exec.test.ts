import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'node:test';
import { type ExecOptions, type ExecResult, execInPod } from './exec.ts';
import { KubeError } from './status.ts';

const exec = { namespace: 'kube-system', pod: 'isthmus-abc', container: 'agent', command: ['isthmus', '-V'] };

test('output is collected per channel, over split frames and long ones', async () => {
  const long = 'x'.repeat(70_000);
  const status = JSON.stringify({ status: 'Success' });
  const whole = Buffer.concat([
    frame('\x01hello '),
    frame('\x01wor', { final: false }),
    frame('ld', { opcode: 0 }),
    frame(`\x01${long}`),
    frame('\x02a warning'),
    frame('', { opcode: 9 }),
    frame(`\x03${status}`),
    frame('', { opcode: 8 }),
  ]);
  const result = await execAgainst(socket => {
    socket.write(whole.subarray(0, 3));
    setImmediate(() => socket.end(whole.subarray(3)));
  });
  assert.deepEqual(result, { stdout: `hello world${long}`, stderr: 'a warning', exitCode: 0 });
});

test('the exit code comes from the Status', async () => {
  const causes = [{ reason: 'ExitCode', message: '3' }];
  const status = JSON.stringify({ status: 'Failure', reason: 'NonZeroExitCode', details: { causes } });
  const result = await execAgainst(socket => socket.end(frame(`\x03${status}`)));
  assert.equal(result.exitCode, 3);
});

test('a command that cannot start is an error, and so is a broken connection', async () => {
  const status = JSON.stringify({ status: 'Failure', message: 'no such file' });
  await assert.rejects(
    execAgainst(socket => socket.end(frame(`\x03${status}`))),
    /isthmus-abc: no such file/,
  );
  await assert.rejects(
    execAgainst(socket => socket.end(frame('\x01half'))),
    /ended before the command/,
  );
});

test('a refusal of the API server keeps its reason', async () => {
  await assert.rejects(
    execAgainst(undefined),
    (error: unknown) => error instanceof KubeError && error.code === 403,
  );
});

test('a node that the API server does not reach is told without the URL of the command', async () => {
  const dial = 'dial tcp 172.18.1.3:10250: connect: no route to host';
  for (const said of [
    `error sending request: Post "https://172.18.1.3:10250/exec/a/b/agent?command=x": ${dial}`,
    `error dialing backend: ${dial}`,
  ])
    await assert.rejects(
      execAgainst(socket => {
        const status = { status: 'Failure', message: `Internal error occurred: ${said}` };
        socket.end(frame(`\u0003${JSON.stringify(status)}`));
      }),
      { message: `exec in pod kube-system/isthmus-abc: its kubelet is not reached: ${dial}` },
    );
});

async function execAgainst(serve: ((socket: Socket) => void) | undefined): Promise<ExecResult> {
  const server = createServer((_request, response) => {
    response
      .writeHead(403)
      .end(JSON.stringify({ kind: 'Status', code: 403, reason: 'Forbidden', message: 'no' }));
  });
  if (serve)
    server.on('upgrade', (request, socket: Socket) => {
      assert.match(request.url ?? '', /pods\/isthmus-abc\/exec\?container=agent.*command=isthmus&command=-V/);
      socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
      serve(socket);
    });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const access = { server: new URL(`http://127.0.0.1:${port}`), credentials: async () => ({ tls: {} }) };
  try {
    return await execInPod(access, exec satisfies ExecOptions);
  } finally {
    server.close();
  }
}

/** A server's frame: not masked. */
function frame(text: string, options: { readonly final?: boolean; readonly opcode?: number } = {}): Buffer {
  const payload = Buffer.from(text);
  const first = ((options.final ?? true) ? 0x80 : 0) | (options.opcode ?? 2);
  const { length } = payload;
  if (length < 126) return Buffer.concat([Buffer.from([first, length]), payload]);
  const head = Buffer.alloc(length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = length < 65_536 ? 126 : 127;
  if (length < 65_536) head.writeUInt16BE(length, 2);
  else head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}
