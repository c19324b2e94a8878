import{a5 as q,a6 as z,p as F,O as H,q as I,t as h,j as v,g as n,v as f,z as N,Q as A,k as _,w as b,s as m,l as J,C,R as P,h as w,m as x,F as R,H as Y,a0 as M,B as $}from"./index-CtHEGoGZ.js";function rt(e,t){return q(e,z)}async function L(e){try{return await navigator.clipboard.writeText(e),!0}catch{const t=document.createElement("textarea");t.value=e,t.className="visually-hidden",document.body.append(t),t.select();const r=document.execCommand("copy");return t.remove(),r}}var X=x('<button class="button compact svelte-8rmv8u" type="button"> </button>'),D=x('<div class="box svelte-8rmv8u" role="group"><div class="row spread bar svelte-8rmv8u"><div class="row"></div> <div class="row"><span class="small soft" role="status"> </span> <button class="button compact" type="button">Copy</button></div></div> <pre tabindex="0" class="svelte-8rmv8u"> </pre></div>');function at(e,t){F(t,!0);let r=H(t,"label",3,"The same by the API");const a=C(()=>Object.keys(t.forms));let s=P(void 0);const o=C(()=>n(s)!==void 0&&n(s)in t.forms?n(s):n(a)[0]??"");let i=P("");async function p(){A(i,await L(t.forms[n(o)]??"")?"Copied":"The browser refuses; select the text",!0),setTimeout(()=>A(i,""),3e3)}var u=D(),y=w(u),g=w(y);I(g,20,()=>n(a),E=>E,(E,T)=>{var j=X(),S=b(j,!0);h(()=>{v(j,"aria-pressed",T===n(o)),f(S,T)}),N("click",j,()=>A(s,T,!0)),_(E,j)});var k=m(g,2),O=w(k),c=b(O,!0),l=m(O,2),d=m(y,2),Q=b(d,!0);h(()=>{v(u,"aria-label",r()),f(c,n(i)),v(d,"aria-label",`${r()??""}, ${n(o)??""}`),f(Q,t.forms[n(o)])}),N("click",l,p),_(e,u),J()}R(["click"]);var G=x('<p class="small soft"> </p>'),K=x('<p class="small bad"> </p>'),U=x('<div class="field svelte-175sa6o"><label class="svelte-175sa6o"> </label> <!> <!> <!></div>');function st(e,t){const r=Y();F(t,!0);const a=C(()=>[t.hint&&`${r}-hint`,t.error&&`${r}-error`].filter(Boolean).join(" ")),s=C(()=>({id:r,...n(a)&&{"aria-describedby":n(a)},...t.error&&{"aria-invalid":"true"}}));var o=U(),i=w(o),p=b(i,!0),u=m(i,2);M(u,()=>t.children,()=>n(s));var y=m(u,2);{var g=c=>{var l=G(),d=b(l,!0);h(()=>{v(l,"id",`${r}-hint`),f(d,t.hint)}),_(c,l)};$(y,c=>{t.hint&&c(g)})}var k=m(y,2);{var O=c=>{var l=K(),d=b(l,!0);h(()=>{v(l,"id",`${r}-error`),f(d,t.error)}),_(c,l)};$(k,c=>{t.error&&c(O)})}h(()=>{v(i,"for",r),f(p,t.label)}),_(e,o),J()}const V="$METEOR_API_KEY";function ot(e,t,r){const a=JSON.stringify(e.body,null,2);return{curl:Z(e,t,r,a),Python:tt(e,t,r),JSON:a}}const W=e=>`'${e.replaceAll("'","'\\''")}'`;function Z({method:e,path:t},r,a,s){const o=a?` \\
  -H "authorization: Bearer ${V}"`:"";return`curl -X ${e} ${r}${t}${o} \\
  -H 'content-type: application/json' \\
  -d ${W(s)}`}function tt({method:e,path:t,body:r},a,s){const o=s?`
headers = {"authorization": f"Bearer {os.environ['METEOR_API_KEY']}"}`:"",i=s?`import os

import httpx
`:`import httpx
`,p=s?", headers=headers":"";return`${i}${o}
body = ${B(r)}
answer = httpx.${e.toLowerCase()}("${a}${t}", json=body${p})
answer.raise_for_status()
print(answer.json()["id"])
`}function B(e,t=""){if(e==null)return"None";if(e===!0)return"True";if(e===!1)return"False";const r=`${t}    `;if(Array.isArray(e))return e.length?`[
${e.map(a=>`${r}${B(a,r)},
`).join("")}${t}]`:"[]";if(typeof e=="object"){const a=Object.entries(e);return a.length?`{
${a.map(([s,o])=>`${r}${JSON.stringify(s)}: ${B(o,r)},
`).join("")}${t}}`:"{}"}return JSON.stringify(e)}export{at as C,st as F,rt as c,ot as f};
