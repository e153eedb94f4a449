// What a careful administrator would let nginx check without Postern: an HS256 token, its scopes, and the JSON of a call.
// No audit row, no contract, no agents, no sessions: this is the comparison, not the product.
import crypto from 'crypto';

function unauthorized(r, status) {
  r.return(status, '{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"refused"}}');
}

function claimsOf(token, secret) {
  const parts = token.split('.');
  if (parts.length !== 3) {
    return null;
  }
  const header = JSON.parse(Buffer.from(parts[0], 'base64url').toString());
  if (header.alg !== 'HS256') {
    return null;
  }
  const signature = crypto.createHmac('sha256', secret).update(parts[0] + '.' + parts[1]).digest('base64url');
  return signature === parts[2] ? JSON.parse(Buffer.from(parts[1], 'base64url').toString()) : null;
}

function isGood(claims, r) {
  const now = Date.now() / 1000;
  const v = r.variables;
  return claims !== null && claims.iss === v.bench_issuer && claims.aud === v.bench_audience && claims.exp > now;
}

function check(r) {
  const authorization = r.headersIn['Authorization'] || '';
  if (!authorization.startsWith('Bearer ')) {
    return unauthorized(r, 401);
  }
  let claims, message;
  try {
    claims = claimsOf(authorization.slice(7), r.variables.bench_secret);
    message = JSON.parse(r.requestText);
  } catch (e) {
    return unauthorized(r, 400);
  }
  if (!isGood(claims, r)) {
    return unauthorized(r, 401);
  }
  const held = claims.scope.split(' ');
  if (!r.variables.bench_scopes.split(' ').every((scope) => held.includes(scope))) {
    return unauthorized(r, 403);
  }
  if (message.jsonrpc !== '2.0' || (message.method === 'tools/call' && message.params.name !== 'echo')) {
    return unauthorized(r, 400);
  }
  return r.internalRedirect('@mcp');
}

export default { check };
