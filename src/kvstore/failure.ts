import { Code, ConnectError } from '@connectrpc/connect';

/** The layer at which talking to an etcd failed: what a user must repair. */
export type FailureLayer = 'files' | 'dns' | 'tcp' | 'tls' | 'authentication' | 'etcd';

export interface Failure {
  readonly layer: FailureLayer;
  readonly message: string;
}

/** Says in one line what failed and at which layer. */
export function describeFailure(error: unknown): Failure {
  if (error instanceof EtcdFailure) return { layer: error.layer, message: error.message };
  const root = rootOf(error);
  const code = codeOf(root);
  const message = inWords(root instanceof Error ? root.message : String(root));
  if (/^(ENOTFOUND|EAI_)/.test(code)) return { layer: 'dns', message };
  if (/^(ECONN|EHOST|ENET|ETIMEDOUT|EPIPE|EADDR)/.test(code)) return { layer: 'tcp', message };
  if (code === 'ENOENT' || code === 'EACCES') return { layer: 'files', message };
  if (tlsCode.test(code) || tlsMessage.test(message)) return { layer: 'tls', message };
  const status = error instanceof ConnectError ? error.code : undefined;
  if (status === Code.Unauthenticated || status === Code.PermissionDenied)
    return { layer: 'authentication', message };
  return { layer: 'etcd', message };
}

/** A failure whose layer is already known. */
export class EtcdFailure extends Error {
  readonly layer: FailureLayer;

  constructor(layer: FailureLayer, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EtcdFailure';
    this.layer = layer;
  }
}

const tlsCode =
  /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|UNABLE_TO|DEPTH_ZERO|SELF_SIGNED|HOSTNAME_MISMATCH|INVALID_CA)/;
const tlsMessage = /certificate|SSL routines|tlsv1|TLS/;

/**
 * OpenSSL's text of an alert has addresses and files of its own source in it, Node's a hint for its own command
 * line: what is kept is whose certificate was refused, and the word for why.
 */
function inWords(message: string): string {
  const alert = /SSL routines:[^:]*:(?:tlsv1|sslv3|ssl\/tls) alert ([a-z ]+):/.exec(message)?.[1];
  if (alert !== undefined) {
    const ours = /certificate|unknown ca/.test(alert);
    return `the server refuses ${ours ? 'our certificate' : 'the connection'} (TLS alert: ${alert})`;
  }
  const [reason] = message.split('; if the root CA is installed locally');
  return /^(unable to (verify|get)|self-signed certificate)/.test(message)
    ? `the server's certificate is not signed by the CA it should be (${reason})`
    : message;
}

function rootOf(error: unknown): unknown {
  let root = error;
  while (root instanceof Error && root.cause instanceof Error) root = root.cause;
  return root;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
