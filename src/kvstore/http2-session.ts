import http2 from 'node:http2';
import tls from 'node:tls';
import { timedOut } from '../failure.ts';

export interface Http2SessionOptions {
  readonly authority: string;
  readonly tls: tls.ConnectionOptions;
  /** Milliseconds for TCP, TLS and the HTTP/2 preface. */
  readonly dialTimeout: number;
  /** Milliseconds without a byte from the peer until it is pinged; only while streams are open. */
  readonly pingInterval: number;
  /** Milliseconds without an answer to a ping until the session is given up. */
  readonly pingTimeout: number;
}

/**
 * TCP's own question whether the peer is there, in milliseconds: who carries the connection and dies is found out in
 * three seconds. It costs the server's process nothing, where pings do and etcd limits them; they find the one that hangs.
 */
const keepAlive = { idle: 1000, interval: 1000, count: 2 };

/**
 * Bytes that may be on their way to us, of one stream and of all: HTTP/2's own 64 KiB are all that comes in a round trip,
 * which of a cluster 80 ms away is less than a megabyte a second.
 */
const windows = { stream: 1 << 20, session: 2 << 20 };

/**
 * One HTTP/2 session that never reconnects: what carries the calls (call.ts). `ended` aborts, with the reason, when it is of no more use.
 */
export class Http2Session {
  readonly #session: http2.ClientHttp2Session;
  readonly #socket: tls.TLSSocket;
  readonly #options: Http2SessionOptions;
  readonly #ended = new AbortController();
  #heardAt = performance.now();
  readonly #streams = new Set<http2.ClientHttp2Stream>();
  #timer: NodeJS.Timeout | undefined;

  private constructor(
    session: http2.ClientHttp2Session,
    socket: tls.TLSSocket,
    options: Http2SessionOptions,
  ) {
    this.#session = session;
    this.#socket = socket;
    this.#options = options;
  }

  /** @throws Error of the layer that failed */
  static connect(options: Http2SessionOptions): Promise<Http2Session> {
    return new Promise((resolve, reject) => {
      const socket = tls.connect({ ...options.tls, ALPNProtocols: ['h2'] });
      socket.setNoDelay(true);
      socket.setKeepAlive(true, keepAlive.idle, keepAlive.interval, keepAlive.count);
      const session = http2.connect(options.authority, {
        createConnection: () => socket,
        settings: { enablePush: false, initialWindowSize: windows.stream },
      });
      session.once('connect', () => session.setLocalWindowSize(windows.session));
      const self = new Http2Session(session, socket, options);
      const timer = setTimeout(() => {
        const error = timedOut(`no answer after ${options.dialTimeout} ms`);
        reject(error);
        self.#end(error);
        self.#destroy();
      }, options.dialTimeout);
      // The listeners stay for the session's whole life: an error without one would end the process.
      session.on('error', error => {
        reject(error);
        self.#end(error);
      });
      // A server that refuses our certificate says so after the handshake (TLS 1.3). The session hears of it only
      // when its socket is closed, which it leaves open.
      socket.on('error', error => {
        reject(error);
        self.#end(error);
        socket.destroy();
      });
      session.on('close', () => {
        clearTimeout(timer);
        clearTimeout(self.#timer);
        const error = new Error('connection closed');
        reject(error);
        self.#end(error);
      });
      session.on('goaway', () => self.#end(new Error('the server is going away')));
      session.once('remoteSettings', () => {
        clearTimeout(timer);
        session.unref();
        resolve(self);
      });
    });
  }

  /** Of whoever is at the other end of TCP: a node, a load balancer; '' once that has ended. */
  get peerAddress(): string {
    return this.#socket.remoteAddress ?? '';
  }

  /** SHA-256 of the server's certificate. */
  get peerCertificate(): string {
    return this.#socket.getPeerCertificate().fingerprint256 ?? '';
  }

  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Ends the session and all its streams. */
  close(): void {
    this.#end(new Error('connection closed'));
    this.#destroy();
  }

  /**
   * Ends the session with everything it carries. Left to itself it would wait for its socket (very long, when
   * that never connects or its peer is gone), and end streams without telling who waits for their answer.
   */
  #destroy(error = new Error('connection closed')): void {
    for (const stream of this.#streams) stream.destroy(error);
    this.#session.destroy(error, http2.constants.NGHTTP2_CANCEL);
    this.#socket.destroy();
  }

  /** Begins a stream of a POST request. @throws the reason for which the session has ended */
  request(path: string, headers: http2.OutgoingHttpHeaders): http2.ClientHttp2Stream {
    this.ended.throwIfAborted();
    const stream = this.#session.request({ ...headers, ':method': 'POST', ':path': path });
    this.#streams.add(stream);
    if (this.#streams.size === 1) {
      this.#session.ref();
      this.#watchSilence();
    }
    stream.once('close', () => {
      this.#streams.delete(stream);
      if (this.#streams.size > 0 || this.#session.destroyed) return;
      this.#session.unref();
      clearTimeout(this.#timer);
    });
    return stream;
  }

  /** Something came from the server: it need not be asked whether it is there. */
  heard(): void {
    this.#heardAt = performance.now();
  }

  #watchSilence(): void {
    clearTimeout(this.#timer);
    this.heard();
    const { pingInterval, pingTimeout } = this.#options;
    const look = (): void => {
      const silent = performance.now() - this.#heardAt;
      if (silent < pingInterval) {
        this.#timer = setTimeout(look, pingInterval - silent).unref();
        return;
      }
      const askedAt = performance.now();
      this.#timer = setTimeout(() => {
        // A byte that came meanwhile is as good as the answer.
        if (this.#heardAt > askedAt) return look();
        const error = timedOut(`no answer to a ping after ${pingTimeout} ms`);
        this.#end(error);
        this.#destroy(error);
      }, pingTimeout).unref();
      this.#session.ping(error => {
        if (error || this.#session.destroyed || this.#streams.size === 0) return;
        clearTimeout(this.#timer);
        this.heard();
        this.#timer = setTimeout(look, pingInterval).unref();
      });
    };
    this.#timer = setTimeout(look, pingInterval).unref();
  }

  #end(reason: Error): void {
    clearTimeout(this.#timer);
    if (!this.#ended.signal.aborted) this.#ended.abort(reason);
  }
}
