// An application that `pixmed serve --forward` posts to, in Node without packages.
//
//   PIXMED_FORWARD_SECRETS=whsec_... PORT=3000 node receiver.mjs
//
// Keep `verify` and put your own work where `handle` is.
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const keys = (process.env.PIXMED_FORWARD_SECRETS ?? '').split(/\s+/).filter(Boolean)
  .map((secret) => Buffer.from(secret.replace(/^whsec_/, ''), 'base64'))
if (keys.length === 0) throw new Error('PIXMED_FORWARD_SECRETS is not set')

// verify tells whether a request is from pixmed: signed with one of the secrets, and
// in the last five minutes.
function verify (headers, body) {
  const id = headers['webhook-id']
  const timestamp = headers['webhook-timestamp']
  if (!id || !(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) return false
  const given = (headers['webhook-signature'] ?? '').split(' ')
    .filter((s) => s.startsWith('v1,')).map((s) => Buffer.from(s.slice(3), 'base64'))
  return keys.some((key) => {
    const want = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
    return given.some((g) => g.length === want.length && timingSafeEqual(g, want))
  })
}

const seen = new Set() // in your database, in one transaction with what you do

// handle is called once for each notification, those of one transaction in order, and
// for each reminder that a case is due soon.
function handle (message) {
  const { transactionId, value, medStatus, dueAt } = message.data
  if (message.type === 'infraction.reminder') {
    console.log(message.type, transactionId, value, `${medStatus}, due ${dueAt}`)
  } else {
    console.log(message.type, transactionId, value, medStatus)
  }
}

createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const body = Buffer.concat(chunks) // as it came: parsing it first would change it
    if (request.method !== 'POST' || !verify(request.headers, body)) {
      response.writeHead(401).end()
      return
    }
    const id = request.headers['webhook-id']
    try {
      if (!seen.has(id)) {
        handle(JSON.parse(body))
        seen.add(id)
      }
      response.writeHead(204).end() // done: pixmed will not send it again
    } catch (error) {
      console.error(error)
      response.writeHead(500).end() // pixmed will send it again
    }
  })
}).listen(Number(process.env.PORT ?? 3000), '127.0.0.1')
