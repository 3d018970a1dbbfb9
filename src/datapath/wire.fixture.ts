/**
 * A small process inside a testbed namespace. Commands:
 *   serve NAME TCP-PORT UDP-PORT [::]  answers every connection and datagram with "NAME peer-address"
 *   listen PORT                        accepts connections over TCP and says nothing
 *   hold KIND ADDRESS PORT             connects, says nothing, and prints why the connection ended
 *   bind KIND ADDRESS PORT             prints "bound", or "EADDRINUSE" …
 *   tcp ADDRESS PORT [TIMES]           prints the answer and the peer's address, or "ECONNREFUSED", "ETIMEDOUT" …
 *   udp ADDRESS PORT [connected [SIZE]] the same, with the address the answer seemed to come from; SIZE bytes are sent
 *   raw-vxlan SOURCE NODE VNI INNER    sends one VXLAN packet (inner frame in hex) from a port of SOURCE
 */
import { createSocket } from 'node:dgram';
import { connect, createServer, isIPv6 } from 'node:net';

const [command, ...rest] = process.argv.slice(2);
const TIMEOUT = 3_000;

switch (command) {
  case 'serve':
    serve(rest[0] ?? '', Number(rest[1]), Number(rest[2]), rest[3] ?? '0.0.0.0');
    break;
  case 'bind':
    await bind(rest[0] ?? '', rest[1] ?? '', Number(rest[2]));
    break;
  case 'listen':
    createServer(() => {}).listen(Number(rest[0]), '0.0.0.0', () => process.stdout.write('listening\n'));
    break;
  case 'hold':
    hold(rest[0] ?? '', rest[1] ?? '', Number(rest[2]));
    break;
  case 'tcp':
    await tcp(rest[0] ?? '', Number(rest[1]), Number(rest[2] ?? 1));
    break;
  case 'udp':
    udp(rest[0] ?? '', Number(rest[1]), rest[2] === 'connected', Number(rest[3] ?? 5));
    break;
  case 'raw-vxlan':
    vxlan(rest[0] ?? '', rest[1] ?? '', Number(rest[2]), rest[3] ?? '');
    break;
  default:
    throw new Error(`unknown command ${command}`);
}

function serve(name: string, tcpPort: number, udpPort: number, address: string): void {
  const server = createServer(socket => {
    socket.on('error', () => socket.destroy());
    socket.end(`${name} ${socket.remoteAddress?.replace('::ffff:', '')}`);
  });
  const datagrams = createSocket(udpOf(address));
  datagrams.on('message', (_data, from) =>
    datagrams.send(`${name} ${from.address}`, from.port, from.address),
  );
  server.listen(tcpPort, address, () => datagrams.bind(udpPort, () => process.stdout.write('listening\n')));
}

/** Prints "connected", and at its end why the connection ended. */
function hold(kind: string, host: string, port: number): void {
  const end = (why: string): void => {
    process.stdout.write(`${why}\n`, () => process.exit());
  };
  const failed = (error: Error): void => end('code' in error ? String(error.code) : error.message);
  if (kind === 'tcp') {
    const socket = connect({ host, port }, () => process.stdout.write('connected\n'));
    socket.on('error', failed).on('end', () => end('closed'));
    return;
  }
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  socket.on('error', failed).connect(port, host, () => process.stdout.write('connected\n'));
}

/** "bound", or why it can not be. */
async function bind(kind: string, address: string, port: number): Promise<void> {
  const said = await new Promise<string>(done => {
    const finish = (error?: Error): void =>
      done(error ? ('code' in error ? String(error.code) : error.message) : 'bound');
    if (kind === 'tcp') {
      const server = createServer();
      server.on('error', finish).listen({ host: address, port }, () => finish());
    } else {
      const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
      socket.on('error', finish).bind(port, address, () => finish());
    }
  });
  process.stdout.write(said, () => process.exit());
}

async function tcp(host: string, port: number, times: number): Promise<void> {
  const answers: string[] = [];
  for (let time = 0; time < times; time++) answers.push(await ask(host, port));
  process.stdout.write(answers.join('\n'));
}

function ask(host: string, port: number): Promise<string> {
  return new Promise(done => {
    const socket = connect({ host, port });
    const finish = (text: string): void => {
      clearTimeout(timer);
      socket.destroy();
      done(text);
    };
    const timer = setTimeout(() => finish('ETIMEDOUT'), TIMEOUT);
    let peer = '';
    let answer = '';
    socket.on('connect', () => {
      peer = socket.remoteAddress ?? '';
    });
    socket.on('data', data => {
      answer += String(data);
    });
    socket.on('end', () => finish(`${answer} ${peer}`));
    socket.on('error', error => finish('code' in error ? String(error.code) : error.message));
  });
}

function udp(host: string, port: number, connected: boolean, size: number): void {
  const data = Buffer.alloc(size, 'hello');
  const socket = createSocket(udpOf(host));
  const timer = setTimeout(() => finish('ETIMEDOUT'), TIMEOUT);
  const finish = (text: string): void => {
    clearTimeout(timer);
    process.stdout.write(text);
    socket.close();
  };
  socket.on('message', (answer, from) => finish(`${answer} ${from.address}:${from.port}`));
  socket.on('error', error => finish('code' in error ? String(error.code) : error.message));
  const sent = (error: Error | null): void => {
    if (error) finish('code' in error ? String(error.code) : error.message);
  };
  if (connected)
    socket.connect(port, host, (error?: Error) => (error ? sent(error) : socket.send(data, sent)));
  else socket.send(data, port, host, sent);
}

function vxlan(source: string, node: string, vni: number, inner: string): void {
  const header = Buffer.alloc(8);
  header[0] = 0x08; // RFC 7348: the VNI is valid
  header.writeUIntBE(vni, 4, 3);
  const socket = createSocket(udpOf(node));
  socket.bind({ address: source }, () =>
    socket.send(Buffer.concat([header, Buffer.from(inner, 'hex')]), 8472, node, () => socket.close()),
  );
}

function udpOf(address: string): 'udp4' | 'udp6' {
  return address.includes(':') ? 'udp6' : 'udp4';
}
